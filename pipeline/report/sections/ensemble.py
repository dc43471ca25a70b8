"""ensemble: what all replicates of a model say together, and what that costs; no training is needed for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.base.quantities import quantity
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.sections.comparison import entry
from pipeline.report.table import Table
from pipeline.report.words import DASH, milliseconds, score, score_interval, signed_interval
from pipeline.scoring import ensemble
from pipeline.scoring.intervals import Interval, intervals
from pipeline.scoring.metrics import SCORES, confusion_matrix

HEADER = (
    "Model",
    "n",
    "Accuracy of one",
    "of all together",
    "Gain",
    "Macro-F1 of all together",
    "Parameters",
    "FLOPs",
    "CPU time of an image",
)


@dataclass(frozen=True)
class Together:
    """A model's replicates as one: scores over test images, and costs of all of them."""

    model: str
    replicates: int
    alone: float  # mean accuracy of one
    scores: dict[str, Interval]
    gain: Interval  # of accuracy, above the mean of one
    parameters: int
    flops: int
    milliseconds: list[float]  # for an image on the CPU, one for each timing; empty where it was not measured


def section(found: Found) -> Section | None:
    """None where models have one replicate, or replicates of different test images."""
    rows = [row for model in found.models if (row := together(model, len(found.data.names)))]
    if not rows:
        return None
    return Section(
        "Replicates together",
        tables=(ensemble_table(rows, caption(found)),),
        summary={"together": [summary(row) for row in rows]},
    )


def together(model: Model, classes: int) -> Together | None:
    """All replicates of a model as one; None where that says nothing."""
    if model.together is None:
        return None
    found = intervals(confusion_matrix(model.actual, model.together, classes)[None])
    return Together(
        model.name,
        model.replicates,
        float(model.right.mean()),
        {name: found[name] for name in SCORES},
        ensemble.gain(model.together == model.actual, model.right),
        model.replicates * model.first.cost.parameters,
        model.replicates * model.first.cost.flops,
        [model.replicates * each for each in model.cpu_milliseconds],
    )


def ensemble_table(rows: Sequence[Together], caption: str) -> Table:
    return Table("ensemble", caption, pd.DataFrame(map(numbers, rows)), HEADER, tuple(map(cells, rows)))


def numbers(row: Together) -> dict[str, float | str]:
    scores = {
        f"{name}{suffix}": value
        for name, interval in (*row.scores.items(), ("gain", row.gain))
        for suffix, value in zip(("", "_low", "_high"), interval.numbers, strict=True)
    }
    costs = {"parameters": row.parameters, "flops": row.flops}
    time = float(np.mean(row.milliseconds)) if row.milliseconds else np.nan
    return {"model": row.model, "n": row.replicates, "alone": row.alone, **scores, **costs, "cpu_ms_per_image": time}


def cells(row: Together) -> tuple[str, ...]:
    return (
        row.model,
        str(row.replicates),
        score(row.alone),
        score_interval(row.scores["accuracy"]),
        signed_interval(*row.gain.numbers),
        score_interval(row.scores["macro_f1"]),
        quantity(row.parameters),
        quantity(row.flops),
        milliseconds(np.array(row.milliseconds)) if row.milliseconds else DASH,
    )


def caption(found: Found) -> str:
    return (
        f"{found.tested}: all replicates of a model asked together, which answer with the class of the largest mean"
        " probability (deep ensemble, Lakshminarayanan et al. 2017), beside the mean of one. 95% intervals over test"
        " images (Clopper-Pearson; of gains, Student t) with these weights as they are: another ensemble of"
        f" other seeds would score otherwise. Costs are those of all {found.replicates} networks."
    )


def summary(row: Together) -> dict[str, object]:
    """What metrics.json has of it: in a list, which `dvc exp show` leaves out of its columns."""
    scores = {name: entry(each) for name, each in row.scores.items()} | {"gain": entry(row.gain)}
    return {
        "model": row.model,
        "replicates": row.replicates,
        **scores,
        "parameters": row.parameters,
        "flops": row.flops,
    }
