"""The scorecard: numbers of a paper, as `published` in params.yaml has them, beside ours.

The rule, on numbers rounded as they are printed: `exceeded` where our 95% interval lies on the better side of the
published number (higher for scores, lower for costs), `below` where it lies on the worse side, `reached` where it holds
it. A cost without an interval (parameters; seconds of one replicate) is compared itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.params import settings
from pipeline.scoring.intervals import Interval, intervals, over_replicates, report_arrays

Timings = Literal["replicates", "rounds"]
Verdict = Literal["exceeded", "reached", "below", "not run"]
VERDICTS: tuple[Verdict, ...] = ("exceeded", "reached", "below", "not run")
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "parameters": "parameters",
    "flops": "FLOPs",
    "weight_bytes": "weights",
    "cpu_seconds": "CPU time",
    "train_seconds": "training time",
}
UNITS = {"parameters": "", "flops": "", "weight_bytes": "bytes", "cpu_seconds": "seconds", "train_seconds": "seconds"}
FIXED = ("parameters", "flops", "weight_bytes")  # the same in every replicate
AVERAGES = {"macro avg": "macro", "macro average": "macro", "weighted avg": "weighted", "weighted average": "weighted"}
PARTIAL = ("precision", "recall", "f1")  # of a class or of an average over classes


@dataclass(frozen=True)
class Line:
    """One published number and ours; `reason` says why there is none."""

    table: str
    row: str
    model: str
    metric: str
    published: float
    ours: Interval | None
    verdict: Verdict
    reason: str = ""
    bounds: tuple[float, float] | None = None  # of an accuracy, had all test images that ours lacks been wrong or right


@dataclass(frozen=True)
class Result:
    """What one model came to: scores by the names of `stats.report_arrays`, costs with a value per replicate."""

    scores: Mapping[str, Interval]
    costs: Mapping[str, Sequence[float]]
    timed_over: Timings = "replicates"  # what the CPU seconds are a value each of


def result(
    confusions: npt.ArrayLike,
    costs: Sequence[Mapping[str, float]],
    cpu_seconds: Sequence[float] = (),
    timed_over: Timings = "replicates",
) -> Result:
    """A model's Result from its replicates' confusion matrices (R, K, K) and the `cost` of their evaluations.

    `cpu_seconds` are those of the passes over all test images that were timed, if any were.
    """
    values = {
        name: [cost[name] for cost in costs]
        for name in (*FIXED, "train_seconds")
        if all(name in cost for cost in costs)
    }
    if cpu_seconds:
        values["cpu_seconds"] = list(cpu_seconds)
    return Result(intervals(confusions, measure=report_arrays), values, timed_over)


def compare(
    published: Sequence[settings.Published],
    dataset: str,
    results: Mapping[str, Result],
    classes: Sequence[str],
    images: int = 0,
    missing: int = 0,
) -> list[Line]:
    """A line for each number published for `dataset`, in the order of params.yaml.

    `missing` test images were published that our `images` lack: accuracies get their bounds.
    """
    lines = [
        _line(table.table, name, row.model or table.model or "", metric, value, results, classes)
        for table in published
        if table.dataset == dataset
        for name, row in table.rows.items()
        for metric, value in row.numbers.items()
    ]
    return [
        replace(line, bounds=bounds(line.ours.mean, images, missing))
        if missing > 0 and line.ours and line.metric == "accuracy"
        else line
        for line in lines
    ]


def bounds(accuracy: float, images: int, missing: int) -> tuple[float, float]:
    """What the accuracy over `images` would be with `missing` more of them, all wrong or all right."""
    right = accuracy * images
    return right / (images + missing), (right + missing) / (images + missing)


def _line(
    table: str,
    row: str,
    model: str,
    metric: str,
    published: float,
    results: Mapping[str, Result],
    classes: Sequence[str],
) -> Line:
    ours = _ours(row, model, metric, results, classes)
    if isinstance(ours, str):
        return Line(table, row, model, metric, published, None, "not run", ours)
    ends = (ours.mean, ours.mean) if math.isnan(ours.low) else (ours.low, ours.high)
    low, high = (as_printed(end, published, metric) for end in ends)
    return Line(table, row, model, metric, published, ours, verdict(published, low, high, lower=metric in UNITS))


def _ours(row: str, model: str, metric: str, results: Mapping[str, Result], classes: Sequence[str]) -> Interval | str:
    """Our number, or why there is none."""
    if model not in results:
        return f"no model '{model}' in params.yaml"
    if metric in UNITS:
        values = results[model].costs.get(metric)
        if not values:
            return "latency was not measured" if metric == "cpu_seconds" else f"{TITLES[metric]} was not measured"
        over = results[model].timed_over if metric == "cpu_seconds" else "replicates"
        if metric in FIXED or len(values) == 1:
            return Interval(float(np.mean(values)), math.nan, math.nan, len(values), over)
        return replace(over_replicates(values, highest=math.inf), basis=over)
    part = _part(row, classes)
    if metric in PARTIAL:
        if part is None:
            return f"no class '{row}' in this data set"
        ours = results[model].scores[f"{metric}/{part}"]
    elif part is not None and part not in AVERAGES.values():
        return f"{TITLES[metric]} is not of one class: give precision, recall or F1"
    else:
        ours = results[model].scores[metric]
    if math.isnan(ours.mean):
        missing = "the class was not predicted" if metric == "precision" else "no test image is of the class"
        return f"undefined, {missing}" + " in every replicate" * (ours.n > 1 and metric == "precision")
    return ours


def _part(row: str, classes: Sequence[str]) -> str | None:
    """What a row is of, as in the names of `stats.report_arrays`: a class's index, macro, weighted, or None."""
    names = [name.casefold() for name in classes]
    if row.casefold() in names:
        return str(names.index(row.casefold()))
    return AVERAGES.get(row.casefold())


def verdict(published: float, low: float, high: float, *, lower: bool = False) -> Verdict:
    """Where an interval lies to a published number; `lower` where lower is better."""
    if low <= published <= high:
        return "reached"
    return "exceeded" if (high < published) == lower else "below"


def as_printed(value: float, published: float, metric: str) -> float:
    """A number of ours rounded for comparison: scores to four decimals, costs to two significant figures, or to as
    many as the published number has."""
    printed = Decimal(str(published)).normalize().as_tuple()
    if metric not in UNITS:
        return round(value, max(4, -int(printed.exponent)))
    return float(f"{value:.{max(2, len(printed.digits)) - 1}e}")


def counts(lines: Sequence[Line]) -> dict[Verdict, int]:
    return {verdict: sum(line.verdict == verdict for line in lines) for verdict in VERDICTS}


def other_images(variant: str) -> str:
    """What stands beside published numbers where ours are of a variant of their data set; empty where they are not."""
    if not variant:
        return ""
    return (
        f"The published numbers are of the original data set, ours of a variant of it ({variant}): part of every"
        " difference may be due to that."
    )


def difference(line: Line) -> float:
    """Ours less the published number; of scores in percentage points."""
    assert line.ours
    return (line.ours.mean - line.published) * (1 if line.metric in UNITS else 100)
