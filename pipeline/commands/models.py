"""`versus models`: the trained models of a study, with their scores."""

import json

from pipeline.base.errors import StageError
from pipeline.base.places import study
from pipeline.params.read import load_params
from pipeline.trained.catalogue import REMEDY, found, highest
from pipeline.trained.leftovers import leftovers, told


def show(as_json: bool = False) -> None:
    """Print every trained model with its validation and test scores; `*` marks what is chosen by default."""
    settings = load_params()
    entries, left = found(settings), told(settings)
    if not entries:
        raise StageError("\n".join([f"no trained model in models/; {REMEDY}", *filter(None, [left])]))
    here = [entry for entry in entries if entry.here]
    chosen = highest(here) if here else None
    if as_json:
        rows = [
            {
                "model": entry.name,
                "val_macro_f1": entry.val_macro_f1,
                "test": entry.test,
                "weights": str(entry.folder) if entry.here else None,
                "default": entry is chosen,
            }
            for entry in entries
        ]
        listed = {"study": study(), "models": rows, "leftovers": list(leftovers(settings))}
        print(json.dumps(listed, indent=2))
        return
    from tabulate import tabulate

    shown = ("accuracy", "macro_f1")
    print(
        tabulate(
            [
                [
                    f"{entry.name} *" if entry is chosen else entry.name,
                    entry.validation,
                    *(f"{entry.test[key]:.4f}" if entry.test else "-" for key in shown),
                    entry.folder if entry.here else "-",
                ]
                for entry in entries
            ],
            headers=["model", "validation macro-F1", "test accuracy", "test macro-F1", "weights"],
            colalign=("left", "right", "right", "right", "left"),
            disable_numparse=True,
        )
    )
    if chosen is not None:
        why = "no validation score, and the first" if chosen.val_macro_f1 is None else "the highest validation macro-F1"
        if any(entry.rank > chosen.rank for entry in entries):
            why += " of those whose weights are here"
        print(f"\n* {why}: what `versus predict` takes by default ({study()})")
    if not all(entry.here for entry in entries):
        print(f"\nWeights that are not here: {REMEDY}.")
    if left:
        print(f"\n{left}")
