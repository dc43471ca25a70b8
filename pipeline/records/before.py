"""What earlier trainings left for one, in data/before/<model>-<replicate>: its teachers, or itself where it teaches.

A teacher is trained before all others, into data/teachers. Of its students each gets its settings and its weights, no
more, so that a teacher that was trained again to the same weights changes nothing for them. Its own training, which
comes with all others, is given all that there is, and takes it as it is.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.files import sha256, write_json, written_whole
from pipeline.base.places import BEFORE, TEACHERS

NEEDED = TEACHERS / "needed.json"  # for each training of the study, the names of those that were before it
LIST, WEIGHTS = "trainings.json", "weights.safetensors"
LESSON = {"config.json", WEIGHTS}  # what a student gets of a teacher


@dataclass(frozen=True)
class Before:
    """The earlier trainings that are at hand for one of a name."""

    name: str
    earlier: Sequence[str]  # their names

    @classmethod
    def of(cls, name: str) -> "Before":
        """What the stage `choose` left; none where it has not run."""
        path = BEFORE / name / LIST
        return cls(name, read(path) if path.exists() else ())

    @property
    def itself(self) -> Path | None:
        """The folder of this very training, which was trained as a teacher; None if it was not."""
        return BEFORE / self.name / self.name if self.name in self.earlier else None

    @property
    def history(self) -> Path:
        """That of `itself`."""
        return BEFORE / self.name / f"{self.name}.csv"

    def teachers(self) -> dict[str, str]:
        """Of each training that teaches this one the SHA-256 of its weights; raises StageError where none does."""
        folders = {each: BEFORE / self.name / each for each in self.earlier if each != self.name}
        if not folders or not all((folder / WEIGHTS).exists() for folder in folders.values()):
            raise StageError(
                f"{BEFORE / self.name}: no teacher there, and params.yaml names one (train.teacher); run `dvc repro"
                " choose` in the study's folder"
            )
        return {name: sha256(folder / WEIGHTS) for name, folder in folders.items()}


def hand_out(needed: Mapping[str, Sequence[str]]) -> None:
    """Leave for each training what it needs of those before it, `needed` by name."""
    with written_whole(BEFORE) as partial:
        for name, earlier in needed.items():
            (partial / name).mkdir(parents=True)
            write_json(partial / name / LIST, earlier)
            for each in earlier:
                left = None if each == name else lambda _, files: set(files) - LESSON
                shutil.copytree(TEACHERS / each, partial / name / each, ignore=left)
            if name in earlier:
                shutil.copy(TEACHERS / f"{name}.csv", partial / name)


def read_needed() -> dict[str, list[str]]:
    """What the stage `check` left."""
    try:
        return dict(json.loads(NEEDED.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise StageError(f"{NEEDED}: cannot be read; run `dvc repro -f check` in the study's folder") from None


def read(path: Path) -> tuple[str, ...]:
    """The names in one training's list."""
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise StageError(f"{path}: cannot be read; run `dvc repro -f choose` in the study's folder") from None
