"""comparison: the models side by side, best first, with what the verdicts leave of the order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report import table, words
from pipeline.report.captions import basis, overrides, places, ranking, tested
from pipeline.report.results import Model
from pipeline.report.sections import pairs
from pipeline.report.table import Table
from pipeline.report.words import DASH, SCORE_TITLES, duration, enumerated, quantity, score_interval, size
from pipeline.scoring.intervals import Interval
from pipeline.scoring.metrics import SCORES
from pipeline.scoring.pairs import Pair


@dataclass(frozen=True)
class Line:
    """One model's line of the comparison; sizes and seconds are means over replicates."""

    model: str
    scores: Mapping[str, Interval]
    parameters: int
    flops: float  # of one image's forward pass, a multiplication and an addition counted apart
    weight_bytes: int
    train_seconds: float
    initialisation: str
    overrides: str = ""  # protocol settings of this model's own, as text


def comparison_table(lines: Sequence[Line], caption: str) -> Table:
    """All models' scores as means with 95% intervals, and what each model costs."""
    rows = [
        {"model": line.model}
        | {
            name + suffix: getattr(line.scores[name], field)
            for name in SCORES
            for suffix, field in (("", "mean"), ("_low", "low"), ("_high", "high"))
        }
        | {
            "n": line.scores[SCORES[0]].n,
            "interval_over": line.scores[SCORES[0]].basis,
            "parameters": line.parameters,
            "flops": line.flops,
            "weight_bytes": line.weight_bytes,
            "train_seconds": line.train_seconds,
            "initialisation": line.initialisation,
            "overrides": line.overrides,
        }
        for line in lines
    ]
    overridden = any(line.overrides for line in lines)
    cells = [
        (
            line.model,
            *(score_interval(line.scores[name]) for name in SCORES),
            str(line.scores[SCORES[0]].n),
            quantity(line.parameters),
            quantity(line.flops),
            size(line.weight_bytes),
            duration(line.train_seconds),
            line.initialisation,
            *([line.overrides or DASH] * overridden),
        )
        for line in lines
    ]
    header = ("Model", *(SCORE_TITLES[name] for name in SCORES), "n", "Parameters", "FLOPs", "Weights", "Training")
    header += ("Initialisation", *(["Own settings"] * overridden))
    return Table("comparison", caption, pd.DataFrame(rows), header, tuple(cells))


def lead(models: Sequence[Model], tested_pairs: Sequence[Pair]) -> str:
    """One sentence: which model's macro-F1 is highest (in the mean), how sure that is, and which others it is above."""
    ranked = sorted(models, key=lambda model: -model.scores["macro_f1"].mean)
    top = ranked[0].scores["macro_f1"]
    over = f"over {models[0].n.removeprefix('n = ')}" if top.n > 1 else "over the test images, from one replicate"
    score = "mean test macro-F1" if top.n > 1 else "test macro-F1"
    value = f"{words.score(top.mean)} (95% interval {words.score(top.low)} to {words.score(top.high)} {over})"
    if len(models) == 1:
        return f"{ranked[0].name} reaches a {score} of {value}."
    tied = [model.name for model in ranked if model.scores["macro_f1"].mean == top.mean]
    if len(tied) > 1:
        return f"{enumerated(tied)} share the highest {score}, {value}."
    rest = pairs.against_the_rest(tested_pairs, ranking(models), models[0].runs)
    return f"{ranked[0].name} has the highest {score}, {value}; {rest}."


def line(model: Model) -> Line:
    first = model.evaluations[0]
    return Line(
        model=model.name,
        scores=model.scores,
        parameters=first["cost"]["parameters"],
        flops=first["cost"]["flops"],
        weight_bytes=first["cost"]["weight_bytes"],
        train_seconds=float(np.mean(model.train_seconds)),
        initialisation=first["initialisation"],
        overrides=overrides(model),
    )


def comparison_caption(models: Sequence[Model], data: Mapping[str, Any]) -> str:
    scores = "mean scores" if len(models[0].evaluations) > 1 else "scores"
    return f"{tested(models, data)}: {scores} with {basis(models)}. Trained on {places(models)}."


def terminal(models: Sequence[Model]) -> str:
    """The comparison for a terminal: intervals of the two scores that lead, means of the others."""
    header = ("", "accuracy", "macro-F1", "weighted F1", "balanced acc.", "n", "parameters", "FLOPs", "training")
    cells = [
        (
            model.name,
            *(words.score_interval(model.scores[name]) for name in ("accuracy", "macro_f1")),
            *(words.score(model.scores[name].mean) for name in ("weighted_f1", "balanced_accuracy")),
            str(len(model.evaluations)),
            words.quantity(model.evaluations[0]["cost"]["parameters"]),
            words.quantity(model.evaluations[0]["cost"]["flops"]),
            words.duration(float(np.mean(model.train_seconds))),
        )
        for model in models
    ]
    return table.text(header, cells) + f"\n[95% interval over {models[0].scores['accuracy'].basis}]"
