"""The scorecard: numbers of a paper, as `published` in params.yaml has them, beside ours.

A published score is the mean of n trainings, one unless the paper says more, rounded as it was printed. An exact
reproduction differs from it by the luck of its seeds and of ours. So the difference, ours less theirs, has a prediction
interval: Student's t, R - 1 degrees of freedom, our spread s over seeds standing for theirs too,

    t s sqrt(1 / R + 1 / n), and half a unit of the last printed digit,

at the level that Student's t has in `intervals`. s is half a test image at least: replicates that happen to agree make
no certainty. Where their test images are not ours, the luck with images that replicates share is added twice, as the
sides of a box; where each replicate draws test images of its own, Nadeau and Bengio's n_test / n_train is added to
1 / R and to 1 / n.

The rule: `exceeded` where the interval lies above 0; `below` where it lies below; `reached` where it holds 0 and
excludes that ours is worse by `MARGIN`, or by half of what the published score lacks to 1 where that is less; else `too
uncertain`. One replicate says nothing of other seeds: always too uncertain.

Costs are compared as they are, rounded as they are printed, less being better; seconds by their interval over
replicates or rounds, where there are several.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import numpy as np

from pipeline.params import settings
from pipeline.scoring.intervals import SEEDS, Interval, Scored, clopper_pearson, over_replicates, student_t

Timings = Literal["replicates", "rounds"]
Verdict = Literal["exceeded", "reached", "below", "too uncertain", "not run"]
VERDICTS: tuple[Verdict, ...] = ("exceeded", "reached", "below", "too uncertain", "not run")
MARGIN = 0.01  # one percentage point
ALONE = "one training: other seeds are unknown"
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
class Number:
    """A number as it was published: the mean of so many `trainings`, in a table of so many decimal `places`."""

    table: str
    row: str
    model: str
    metric: str
    value: float
    trainings: int
    places: int


@dataclass(frozen=True)
class Line:
    """One published number and ours; `reason` says why there is none, or why there is no verdict."""

    number: Number
    ours: Interval | None
    verdict: Verdict
    reason: str = ""
    ends: tuple[float, float] = (math.nan, math.nan)  # of a score's difference, ours less theirs
    bounds: tuple[float, float] | None = None  # of an accuracy, had all test images that ours lacks been wrong or right

    @property
    def metric(self) -> str:
        return self.number.metric

    @property
    def published(self) -> float:
        return self.number.value


@dataclass(frozen=True)
class Result:
    """What one model came to: scores by the names of `intervals.report_arrays`, costs with a value per replicate."""

    scores: Mapping[str, Scored]
    costs: Mapping[str, Sequence[float]]
    timed_over: Timings = "replicates"  # what the CPU seconds are a value each of


def result(
    scores: Mapping[str, Scored],
    costs: Sequence[Mapping[str, float]],
    cpu_seconds: Sequence[float] = (),
    timed_over: Timings = "replicates",
) -> Result:
    """A model's Result from its scores and the `cost` of its replicates' evaluations.

    `cpu_seconds` are those of the passes over all test images that were timed, if any were.
    """
    values = {
        name: [cost[name] for cost in costs]
        for name in (*FIXED, "train_seconds")
        if all(name in cost for cost in costs)
    }
    if cpu_seconds:
        values["cpu_seconds"] = list(cpu_seconds)
    return Result(scores, values, timed_over)


@dataclass(frozen=True)
class Images:
    """Our test images beside those of the published numbers."""

    found: int = 0
    missing: int = 0  # of theirs
    same: bool = True  # whether both are the same; drawn ones are not


def compare(
    published: Sequence[settings.Published],
    dataset: str,
    results: Mapping[str, Result],
    classes: Sequence[str],
    images: Images = Images(),
) -> list[Line]:
    """A line for each number published for `dataset`, in the order of params.yaml; accuracies with their bounds."""
    lines = [
        _line(number, results, classes, images.same)
        for table in published
        if table.dataset == dataset
        for number in numbers(table)
    ]
    return [
        replace(line, bounds=bounds(line.ours.mean, images.found, images.missing))
        if images.missing > 0 and line.ours and line.metric == "accuracy"
        else line
        for line in lines
    ]


def numbers(table: settings.Published) -> list[Number]:
    """What one table says, in its order."""
    scores = [value for row in table.rows.values() for name, value in row.numbers.items() if name not in UNITS]
    places = max(map(decimals, scores), default=0)
    return [
        Number(table.table, name, row.model or table.model or "", metric, value, row.n or table.n, max(places, 2))
        for name, row in table.rows.items()
        for metric, value in row.numbers.items()
    ]


def decimals(value: float) -> int:
    """0.7386 -> 4. YAML does not keep the 0s of 0.7400, so a table's scores are taken together."""
    return max(0, -int(Decimal(str(value)).normalize().as_tuple().exponent))


def bounds(accuracy: float, images: int, missing: int) -> tuple[float, float]:
    """What the accuracy over `images` would be with `missing` more of them, all wrong or all right."""
    right = accuracy * images
    return right / (images + missing), (right + missing) / (images + missing)


def _line(number: Number, results: Mapping[str, Result], classes: Sequence[str], same: bool) -> Line:
    if number.model not in results:
        return Line(number, None, "not run", f"no model '{number.model}' in params.yaml")
    if number.metric in UNITS:
        return _cost_line(number, results[number.model])
    found = _score(number, results[number.model], classes)
    if isinstance(found, str):
        return Line(number, None, "not run", found)
    low, high = difference_ends(found, number, same)
    reason = ALONE if len(found.values) == 1 else ""
    return Line(number, found.interval, verdict(number.value, low, high), reason, (low, high))


def _cost_line(number: Number, result: Result) -> Line:
    values = result.costs.get(number.metric)
    if not values:
        missing = "latency" if number.metric == "cpu_seconds" else TITLES[number.metric]
        return Line(number, None, "not run", f"{missing} was not measured")
    over = result.timed_over if number.metric == "cpu_seconds" else "replicates"
    if number.metric in FIXED or len(values) == 1:
        ours = Interval(float(np.mean(values)), math.nan, math.nan, len(values), over)
    else:
        ours = replace(over_replicates(values, highest=math.inf), basis=over)
    ends = (ours.mean, ours.mean) if math.isnan(ours.low) else (ours.low, ours.high)
    return Line(number, ours, cost_verdict(number.value, *(as_printed(end, number.value) for end in ends)))


def _score(number: Number, result: Result, classes: Sequence[str]) -> Scored | str:
    """Our score, or why there is none."""
    part = _part(number.row, classes)
    if number.metric in PARTIAL:
        if part is None:
            return f"no class '{number.row}' in this data set"
        ours = result.scores[f"{number.metric}/{part}"]
    elif part is not None and part not in AVERAGES.values():
        return f"{TITLES[number.metric]} is not of one class: give precision, recall or F1"
    else:
        ours = result.scores[number.metric]
    if np.isnan(ours.values).any():
        missing = "the class was not predicted" if number.metric == "precision" else "no test image is of the class"
        return f"undefined, {missing}" + " in every replicate" * (len(ours.values) > 1 and number.metric == "precision")
    return ours


def _part(row: str, classes: Sequence[str]) -> str | None:
    """What a row is of, as in the names of `intervals.report_arrays`: a class's index, macro, weighted, or None."""
    names = [name.casefold() for name in classes]
    if row.casefold() in names:
        return str(names.index(row.casefold()))
    return AVERAGES.get(row.casefold())


def difference_ends(ours: Scored, number: Number, same: bool = True) -> tuple[float, float]:
    """The ends of the difference, ours less theirs, of an exact reproduction; NaN with one replicate.

    `same`: whether test images are those of the published number.
    """
    replicates = len(ours.values)
    if replicates == 1:
        return math.nan, math.nan
    mean, spread = ours.values.mean(), max(ours.values.std(ddof=1), 0.5 / ours.images)
    trainings = 1 / replicates + 1 / number.trainings + 2 * ours.redrawn
    seeds = student_t(replicates, SEEDS) * spread * math.sqrt(trainings)
    low, high = clopper_pearson(mean, np.asarray(ours.images / max(ours.shared, 1e-9)))
    twice = 0.0 if same or ours.redrawn else math.sqrt(2)  # their images and ours
    rounding = 0.5 * 10.0**-number.places
    below, above = (math.hypot(seeds, twice * side) + rounding for side in (mean - low, high - mean))
    return float(mean - number.value - below), float(mean - number.value + above)


def verdict(published: float, low: float, high: float) -> Verdict:
    """Of a published score and the ends of the difference to it; see the module."""
    if low > 0 or high < 0:
        return "exceeded" if low > 0 else "below"
    return "reached" if low > -min(MARGIN, (1 - published) / 2) else "too uncertain"  # NaN is neither


def cost_verdict(published: float, low: float, high: float) -> Verdict:
    """Of a published cost and the ends of ours, or ours twice."""
    if low <= published <= high:
        return "reached"
    return "exceeded" if high < published else "below"


def as_printed(value: float, published: float) -> float:
    """A cost of ours rounded to two significant figures, or to as many as the published one has."""
    printed = Decimal(str(published)).normalize().as_tuple()
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
