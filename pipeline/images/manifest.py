"""manifest.csv beside packed images, a line for each: what they were called where they come from."""

import csv
from pathlib import Path

from pipeline.base.errors import StageError


def image_names(folder: Path, split: str = "test") -> list[str]:
    """The names of a split's images, in their order; raises StageError where there is no readable manifest."""
    try:
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
            return [line["name"] for line in csv.DictReader(file) if line.get("split", split) == split]
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; run `dvc repro split` first") from None
    except (ValueError, KeyError):
        raise StageError(
            f"{folder}/manifest.csv: damaged; run `dvc checkout --force {folder}` or `dvc repro -f split`"
        ) from None
