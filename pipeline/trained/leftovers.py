"""What a study keeps of trainings that its params.yaml does not name: of models and replicates removed or renamed.

They lie in models/ and reports/ until `versus prune --yes` removes them, and whoever reads results passes them over.
"""

import re
from pathlib import Path

from pipeline.params.study import Params

PLACES = (  # folders, and the ends of their files' names
    ("models", ""),
    ("data/teachers", ""),
    ("data/teachers", ".csv"),
    ("data/logits", ".npy"),
    ("data/predictions", ".parquet"),
    ("reports/corruptions", ".json"),
    ("reports/evaluations", ".json"),
    ("reports/histories", ".csv"),
    ("reports/predictions", ".parquet"),
)
LEFT_BY_TRAIN = ("run.json", "config.json")  # a folder below models/ without these is the user's own


def trainings(settings: Params) -> list[str]:
    """The trainings that params.yaml names, as their files are called: cnn-0."""
    return [f"{model}-{replicate}" for model in settings.models for replicate in settings.replicates]


def leftovers(settings: Params, study: Path = Path()) -> dict[str, list[Path]]:
    """What there is of trainings that params.yaml does not name: training -> files and folders."""
    named, found = set(trainings(settings)), dict[str, list[Path]]()
    for place, suffix in PLACES:
        for path in sorted((study / place).glob(f"*{suffix}")):
            name = path.name.removesuffix(suffix)
            ours = bool(suffix) or any((path / file).is_file() for file in LEFT_BY_TRAIN)
            if ours and name not in named and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*-\d+", name):
                found.setdefault(name, []).append(path)
    return dict(sorted(found.items()))


def told(settings: Params) -> str:
    """One line on the leftovers of the study in the current folder; empty where there are none."""
    if not (names := list(leftovers(settings))):
        return ""
    shown = ", ".join(names[:6]) + f" and {len(names) - 6} more" * (len(names) > 6)
    return f"Not in params.yaml, and left out: {shown}. `versus prune` lists their files, with --yes it removes them."
