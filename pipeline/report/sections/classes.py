"""classes: scores of each class, with intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report import drawing, table
from pipeline.report.captions import tested
from pipeline.report.drawing import INK, STYLE, Score, colours
from pipeline.report.results import Model
from pipeline.report.table import Table
from pipeline.report.words import spread
from pipeline.scoring import metrics
from pipeline.scoring.intervals import intervals
from pipeline.scoring.metrics import averages, per_class, score_arrays

PANELS = 20  # classes of `class_scores` at most


def class_scores_figure(scores: Mapping[str, Sequence[Score]], classes: Sequence[str]) -> Figure:
    """Each class's F1 with its 95% interval, a panel per class, a line per model; the 20 hardest of more classes.

    Bars from 0; dots where every score is so high that the axis has to be cut for a difference to be seen.
    """
    tones = colours(list(scores))
    means, lows, _ = np.array(list(scores.values())).transpose(2, 0, 1)  # (M, K) each
    known = np.where(np.isnan(means), -1, means).max(0)
    shown = np.sort(np.argsort(known, kind="stable")[:PANELS])
    edges = np.concatenate([means.ravel(), lows.ravel()])
    low = float(np.nanmin(edges)) if not np.isnan(edges).all() else 0.0
    cut = low > 0.75
    columns = min(len(shown), 5)
    rows = math.ceil(len(shown) / columns)
    with mpl.rc_context(STYLE | {"axes.titlesize": 10.5, "axes.titlepad": 4}):
        height = 0.19 * len(scores) + 0.62
        figure = Figure(figsize=(10.4, rows * height + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, k in zip(panels, shown, strict=False):
            for row, (name, values) in enumerate(scores.items()):
                mean, start, end = values[k]
                if math.isnan(mean):
                    continue
                if cut:
                    panel.plot(mean, row, "o", markersize=4.5, color=tones[name], zorder=3)
                else:
                    panel.barh(row, mean, height=0.62, color=tones[name], alpha=0.75, zorder=2)
                if not math.isnan(start):
                    tone = tones[name] if cut else INK
                    panel.plot([start, end], [row] * 2, color=tone, linewidth=1.2, zorder=4)
            panel.set_title(classes[k])
            panel.grid(visible=False, axis="y")
            panel.spines["left"].set_visible(False)
        for unused in panels[len(shown) :]:
            unused.set_visible(False)
        for panel in panels[max(0, len(shown) - columns) : len(shown)]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("F1")
        panels[0].set_xlim(low - 0.03 * (1 - low) if cut else 0.0, 1 + 0.02 * (1 - low if cut else 1))
        panels[0].xaxis.set_major_locator(MaxNLocator(4))
        panels[0].set_ylim(len(scores) - 0.4, -0.6)
        panels[0].set_yticks(np.arange(len(scores)), list(scores))
        for panel in panels:
            panel.tick_params(axis="y", labelcolor=INK, labelsize=8.5)
    return figure


def classification_table(name: str, confusions: npt.ArrayLike, classes: Sequence[str], caption: str) -> Table:
    """One model's classification report over its replicates' confusion matrices (R, K, K).

    Precision, recall, F1 and support of each class, then accuracy, macro and weighted averages: means over replicates,
    with their standard deviation where R > 1. A value undefined in some replicates is the mean of the others and says
    of how many.
    """
    counts = np.asarray(confusions)  # (R, K, K)
    each, means, overall = per_class(counts), averages(counts), score_arrays(counts)
    images = counts.sum((1, 2))  # (R,)
    measures = ("precision", "recall", "f1")
    undefined = np.full(len(counts), np.nan)
    lines = [
        (label, [each[measure][:, index] for measure in measures], each["support"][:, index])
        for index, label in enumerate(classes)
    ]
    lines.append(("accuracy", [undefined, undefined, overall["accuracy"]], images))
    lines += [(f"{kind} avg", [means[kind][measure] for measure in measures], images) for kind in ("macro", "weighted")]
    rows, cells = [], []
    for label, values, support in lines:  # values: three arrays (R,)
        row: dict[str, Any] = {"class": label}
        for measure, value in zip(measures, values, strict=True):
            row |= _summary(measure, value)
        rows.append(row | {"support": round(float(support.mean()))})
        texts = [spread(value) for value in values]
        cells.append((label, *texts, f"{support.mean():,.0f}"))
    header = ("Class", "Precision", "Recall", "F1", "Support")
    return Table(name, caption, pd.DataFrame(rows), header, tuple(cells), rules=(len(classes),))


def _summary(measure: str, values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean, and with several replicates standard deviation and number, of the values (R,) that are defined."""
    defined = values[~np.isnan(values)]
    row = {measure: float(defined.mean()) if len(defined) else math.nan}
    if len(values) > 1:
        row[f"{measure}_sd"] = float(defined.std(ddof=1)) if len(defined) > 1 else math.nan
        row[f"{measure}_n"] = len(defined)
    return row


def classification(model: Model, data: Mapping[str, Any]) -> table.Table:
    n = len(model.evaluations)
    over = f"mean ± standard deviation over {model.n}" if n > 1 else model.n
    caption = f"{model.name} on {tested([model], data)}: {over}."
    classes = [each["class"] for each in data["classes"]]
    return classification_table(f"classification_{model.name}", model.confusions, classes, caption)


def class_intervals(model: Model) -> list[drawing.Score]:
    """F1 of each class with its interval, over replicates or over test images."""
    found = intervals(model.confusions, measure=class_f1).values()
    return [(each.mean, each.low, each.high) for each in found]


def class_f1(confusions: npt.ArrayLike) -> dict[str, metrics.Floats]:
    """F1 of each class of matrices (..., K, K), by its index: name -> (...)."""
    each = metrics.per_class(confusions)["f1"]
    return {str(index): each[..., index] for index in range(each.shape[-1])}
