"""`versus estimate`: how long a study's trainings will take.

Each model takes a few training steps and a few validation batches at the study's own settings, from random weights.
What that leaves out stands below the table.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pipeline.base.places import study
from pipeline.base.quantities import duration

if TYPE_CHECKING:
    from pipeline.params.study import Params
    from pipeline.training.timing import Estimate

SUMMARY = "Estimate how long the study's trainings will take"
EXAMPLE = "versus estimate"
INTERRUPTED = "nothing was trained or written, `versus estimate` measures anew"
LEFT_OUT = (
    "Left out: evaluation (a pass over the test images for each training), latency (five rounds of up to 4 s and a"
    " batch for each model, and as much again in ONNX Runtime), the first epoch's warming up, compilation, downloads, a"
    " few seconds for each stage to start, and whatever else the machine does. What DVC has in its cache takes no time."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--compile", action="store_true", help="say from how many epochs on train.compile pays")


def run(given: argparse.Namespace) -> None:
    estimate(given.json, given.compile)


def estimate(as_json: bool = False, compiled: bool = False) -> None:
    """Print a line for each model and the sum; if `compiled`, from how many epochs on `train.compile` would pay."""
    from pipeline.base.lines import folded
    from pipeline.params.read import load_params

    found = measured(load_params(), compiled)
    total = sum(each.total for each in found)
    if as_json:
        plain = [{**vars(each), "total_seconds": each.total, "pays_from": each.pays_from} for each in found]
        print(json.dumps({"study": study(), "models": plain, "total_seconds": total, "note": LEFT_OUT}, indent=2))
    else:
        print(f"{in_words(found, compiled)}\n{folded(LEFT_OUT)}")


def measured(settings: "Params", compiled: bool = False) -> "list[Estimate]":
    """Time the models of the study in the current folder one by one, whose names go to stderr meanwhile."""
    from pipeline.inference.device import keep_freed_memory
    from pipeline.training.timing import measure

    keep_freed_memory()
    found = []
    for number, name in enumerate(settings.models, 1):
        print(f"measuring {name}, {number} of {len(settings.models)}", file=sys.stderr, flush=True)
        found.append(measure(settings, name, compiled))
    return found


def in_words(found: "list[Estimate]", compiled: bool = False) -> str:
    """The table, and the sum below it."""
    total = sum(each.total for each in found)
    return f"{table(found, compiled)}\n\n{study()}: about {duration(total)} of training, one after the other."


def table(found: "list[Estimate]", compiled: bool) -> str:
    """A line for each model; if `compiled`, with what `train.compile` would gain."""
    from tabulate import tabulate

    tried = any(each.trials for each in found)
    rows = [
        [
            each.model,
            each.device,
            f"{each.step_ms:.3g} ms",
            f"{each.images_per_second:,.0f}",
            each.epochs,
            duration(each.seconds),
            each.trainings,
            *([each.trials] if tried else []),
            duration(each.total),
            *(
                [f"{each.compiled_ms:.3g} ms", duration(each.compilation or 0), worth(each.pays_from)]
                if compiled
                else []
            ),
        ]
        for each in found
    ]
    header = [
        "model",
        "device",
        "step",
        "images/s",
        "epochs",
        "one training",
        "trainings",
        *["trials"] * tried,
        "together",
    ]
    header += ["compiled step", "compilation", "pays"] * compiled
    align = ("left", "left", *["right"] * (len(header) - 2))
    return tabulate(rows, headers=header, colalign=align, disable_numparse=True)


def worth(epochs: int | None) -> str:
    """When `train.compile` pays, in words."""
    return "never" if epochs is None else f"from {epochs:,} epoch{'s' * (epochs > 1)}"
