"""The trained models of the study in the current folder as `versus models` lists them: a table, or JSON."""

import json
from dataclasses import dataclass

from pipeline.base.errors import StageError
from pipeline.base.places import study
from pipeline.base.quantities import enumerated
from pipeline.params.read import load_params
from pipeline.trained.catalogue import REMEDY, Trained, found, highest
from pipeline.trained.leftovers import leftovers, told

HEADER = ("model", "validation macro-F1", "test accuracy", "test macro-F1", "weights")


@dataclass(frozen=True)
class Listed:
    """What is trained, which of it answers by default, and what params.yaml does not name."""

    entries: list[Trained]
    chosen: Trained | None  # None where no weights are here
    leftovers: list[str]  # trainings
    left: str  # a line on these; empty where there are none
    lacking: list[str]  # models of params.yaml of which no replicate is trained


def listed() -> Listed:
    """Raises StageError where nothing is trained."""
    settings = load_params()
    entries, left = found(settings), told(settings)
    if not entries:
        raise StageError("\n".join([f"no trained model in models/; {REMEDY}", *filter(None, [left])]))
    here = [entry for entry in entries if entry.here]
    lacking = [name for name in settings.models if name not in {entry.model for entry in entries}]
    return Listed(entries, highest(here) if here else None, list(leftovers(settings)), left, lacking)


def as_json(models: Listed) -> str:
    rows = [
        {
            "model": entry.name,
            "val_macro_f1": entry.val_macro_f1,
            "test": entry.test,
            "weights": str(entry.folder) if entry.here else None,
            "default": entry is models.chosen,
        }
        for entry in models.entries
    ]
    return json.dumps(
        {"study": study(), "models": rows, "untrained": models.lacking, "leftovers": models.leftovers}, indent=2
    )


def as_table(models: Listed) -> str:
    """A row for each model with its validation and test scores; `*` marks what is chosen by default."""
    from tabulate import tabulate

    rows = [_row(entry, models.chosen) for entry in models.entries]
    align = ("left", "right", "right", "right", "left")
    return "\n\n".join([tabulate(rows, headers=HEADER, colalign=align, disable_numparse=True), *_notes(models)])


def _row(entry: Trained, chosen: Trained | None) -> list[str]:
    scores = [f"{entry.test[key]:.4f}" if entry.test else "-" for key in ("accuracy", "macro_f1")]
    weights = str(entry.folder) if entry.here else "-"
    return [f"{entry.name} *" if entry is chosen else entry.name, entry.validation, *scores, weights]


def _notes(models: Listed) -> list[str]:
    """What stands below the table: why a model is marked, whose weights are elsewhere, what is left over."""
    notes = []
    if (chosen := models.chosen) is not None:
        why = "no validation score, and the first" if chosen.val_macro_f1 is None else "the highest validation macro-F1"
        if any(entry.rank > chosen.rank for entry in models.entries):
            why += " of those whose weights are here"
        notes.append(f"* {why}: what `versus predict` takes by default ({study()})")
    if models.lacking:
        notes.append(f"Not trained: {enumerated(models.lacking)}; `versus launch` or `dvc repro` trains.")
    if not all(entry.here for entry in models.entries):
        notes.append(f"Weights that are not here: {REMEDY}.")
    return notes + [models.left] * bool(models.left)
