"""probabilities: Brier score, risk-coverage area, AUROC, and what conformal sets hold."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.sections.comparison import entry
from pipeline.report.table import Table
from pipeline.report.words import NOT_MEASURED, mean_and_interval
from pipeline.scoring import proper
from pipeline.scoring.conformal import PROMISED
from pipeline.scoring.intervals import Interval, of_shares, over_replicates
from pipeline.scoring.proper import Influenced

UNDEFINED = Interval(math.nan, math.nan, math.nan, 0, "test images")
TITLES = {
    "brier_score": "Brier score",
    "risk_coverage_area": "Risk-coverage area",
    "macro_auroc": "Macro AUROC",
    "set_coverage": f"Labels in {PROMISED:.0%} sets",
    "set_size": "Classes in a set",
}

Scores = Mapping[str, Interval | None]  # by the names of TITLES; None: not measured


def section(found: Found) -> Section:
    areas = {model.name: areas_of_classes(model) for model in found.models}
    lines = {model.name: scores(model, areas[model.name]) for model in found.models}
    tables = [scores_table(lines, caption(found))]
    if all(areas.values()):
        tables.append(
            auroc_table({model.name: class_intervals(model, areas[model.name]) for model in found.models}, found)
        )
    return Section(
        "Probabilities",
        {"held": held(lines), "promised": PROMISED},
        tables=tuple(tables),
        summary={"probabilities": [{"model": name, **summary(each)} for name, each in lines.items()]},
        metrics={
            f"{model}/{name}": interval.mean
            for model, each in lines.items()
            for name, interval in each.items()
            if interval is not None and not math.isnan(interval.mean)
        },
    )


# of one model

Areas = Sequence[Sequence[Influenced]]  # AUROC of each class, K of them, in each replicate; empty where it is not known


def areas_of_classes(model: Model) -> Areas:
    if model.probabilities is None:
        return ()
    every = [proper.of_classes(*each) for each in zip(model.probabilities, labels(model), strict=True)]
    return list(zip(*every, strict=True))


def labels(model: Model) -> np.ndarray:
    """Of the test images of each replicate (R, N)."""
    return np.broadcast_to(model.actual, model.predicted.shape)


def scores(model: Model, areas: Areas) -> Scores:
    runs, shared = list(zip(model.confidence, model.right, strict=True)), luck(model)
    risk = proper.loss_interval([proper.risk_coverage_area(*run) for run in runs], shared=shared)
    found = {"brier_score": UNDEFINED, "risk_coverage_area": risk, "macro_auroc": UNDEFINED}
    if model.probabilities is not None:
        answers = zip(model.probabilities, labels(model), strict=True)
        found["brier_score"] = proper.loss_interval([proper.brier_score(*each) for each in answers], 2.0, shared)
        macro = [proper.macro(each) for each in zip(*areas, strict=True)]
        most = proper.images_of_mean([each for each in images_of_areas(model, areas) if not math.isnan(each)])
        found["macro_auroc"] = proper.area_interval(macro, most, shared)
    over_images = {name: without_ends(each, model) if model.folds else each for name, each in found.items()}
    return {**over_images, **of_sets(model)}


def luck(model: Model) -> float | None:
    """The luck with test images that replicates have in common; None: what they say of these tells."""
    return None if model.own_images is None else model.shared


def without_ends(interval: Interval, model: Model) -> Interval:
    """Of folds, whose images are told of together, the score alone."""
    return Interval(interval.mean, math.nan, math.nan, model.replicates, interval.basis)


def images_of_areas(model: Model, areas: Areas) -> list[float]:
    """The number of images that each class's AUROC rests on at most; NaN where it is undefined."""
    actual = labels(model)
    ours = [float((actual == k).mean(1).mean() * actual.shape[1]) for k in range(len(areas))]
    means = [float(np.mean([area for area, _ in runs])) for runs in areas]
    return [
        proper.images_of_area(area, count, actual.shape[1] - count) for area, count in zip(means, ours, strict=True)
    ]


def class_intervals(model: Model, areas: Areas) -> list[Interval]:
    """AUROC of each class."""
    most = images_of_areas(model, areas)
    found = [proper.area_interval(runs, each, luck(model)) for runs, each in zip(areas, most, strict=True)]
    return [without_ends(each, model) for each in found] if model.folds else found


def of_sets(model: Model) -> Scores:
    """How many labels conformal sets hold, over seeds and test images, and how large they are, over seeds."""
    held, sizes = (measured(model, name) for name in ("set_coverage", "set_size"))
    if held is None or sizes is None:
        return {"set_coverage": None, "set_size": None}
    several = len(sizes) > 1
    size = over_replicates(sizes, math.inf) if several else Interval(sizes[0], math.nan, math.nan, 1, "replicates")
    return {"set_coverage": of_shares(held, model.tested, redrawn=model.redrawn), "set_size": size}


def measured(model: Model, name: str) -> list[float] | None:
    """What evaluations say of calibration, NaN where it is undefined; None where some have not measured it."""
    values = [evaluation.calibration.get(name, NOT_MEASURED) for evaluation in model.evaluations]
    if NOT_MEASURED in values:
        return None
    return [math.nan if value is None else float(value) for value in values]


# what is shown


def held(lines: Mapping[str, Scores]) -> str:
    """How many labels the sets of the models hold, in words; empty where none were made."""
    known = [each["set_coverage"].mean for each in lines.values() if each["set_coverage"] is not None]
    shares = [f"{share:.1%}" for share in sorted(share for share in known if not math.isnan(share))]
    return " to ".join(dict.fromkeys([shares[0], shares[-1]])) if shares else ""


def scores_table(lines: Mapping[str, Scores], caption: str) -> Table:
    cells = [(model, *map(cell, each.values()), str(runs(each))) for model, each in lines.items()]
    return Table("probabilities", caption, frame(lines), ("Model", *TITLES.values(), "n"), tuple(cells))


def cell(interval: Interval | None) -> str:
    return NOT_MEASURED if interval is None else mean_and_interval(*interval.numbers)


def runs(each: Scores) -> int:
    risk = each["risk_coverage_area"]
    return 0 if risk is None else risk.n


def frame(lines: Mapping[str, Scores]) -> pd.DataFrame:
    """A row for each model: of each score the mean, `_low` and `_high`, and n at the end."""
    rows = []
    for model, each in lines.items():
        row: dict[str, object] = {"model": model}
        for name in TITLES:
            numbers = (each[name] or UNDEFINED).numbers
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
        rows.append(row | {"n": runs(each)})
    return pd.DataFrame(rows)


def auroc_table(columns: Mapping[str, Sequence[Interval]], found: Found) -> Table:
    """A line for each class and a column for each model."""
    cells = [
        (name, *(mean_and_interval(*each[index].numbers) for each in columns.values()))
        for index, name in enumerate(found.data.names)
    ]
    rows = [
        {"class": name}
        | {
            f"{model}{suffix}": value
            for model, each in columns.items()
            for suffix, value in zip(("", "_low", "_high"), each[index].numbers, strict=True)
        }
        for index, name in enumerate(found.data.names)
    ]
    text = (
        f"{found.tested}: AUROC of each class, the probability that an image of it is given more of it than an image of"
        " another class."
    )
    return Table("auroc", text, pd.DataFrame(rows), ("Class", *columns), tuple(cells))


def summary(each: Scores) -> dict[str, object]:
    """What metrics.json has of it: in a list, which `dvc exp show` leaves out of its columns."""
    known = {name: entry(interval) for name, interval in each.items() if interval is not None}
    return {
        name: {key: value for key, value in found.items() if not math.isnan(value)} for name, found in known.items()
    }


def caption(found: Found) -> str:
    over = "without intervals" if found.first.folds else f"{found.basis}; of classes in a set over replicates alone"
    kept = all(model.probabilities is not None for model in found.models)
    return (
        f"{found.tested}: {over}. Brier score: squared distance of the probabilities to the label, 0 to 2. AUROC: each"
        " class against the rest, the mean over classes. Risk-coverage area (AURC): error on the images that a model"
        " is surest of, averaged over all shares. Sets: the likeliest classes up to a threshold, one at least,"
        f" that holds {PROMISED:.0%} of the labels of validation images (conformal APS, Romano et al. 2020); they are"
        " promised to hold as many of those of images that are drawn as these were."
        + ("" if kept else " Brier score and AUROC want the probabilities of all classes, which are not kept.")
    )
