"""classes: scores of each class, with intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report import drawing
from pipeline.report.drawing import INK, Score, colours, style
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table, summary
from pipeline.report.words import spread
from pipeline.scoring.metrics import averages, per_class, score_arrays

PANELS = 20  # classes of `class_scores` at most


def section(found: Found) -> Section:
    reports = {model.name: classification(model, found) for model in found.models}
    scores = {model.name: class_intervals(model) for model in found.models}
    return Section(
        "Classes",
        {"reports": reports, "hardest": min(len(found.data.names), PANELS)},
        tables=tuple(reports.values()),
        figures={"class_scores": class_scores_figure(scores, found.data.names)},
    )


@style({"axes.titlesize": 10.5, "axes.titlepad": 4})
def class_scores_figure(scores: Mapping[str, Sequence[Score]], classes: Sequence[str]) -> Figure:
    """Each class's F1 with its 95% interval, a panel per class, a line per model; the 20 hardest of more classes.

    Bars from 0; dots where every score is so high that the axis has to be cut for a difference to be seen.
    """
    values = np.array(list(scores.values()))  # (M, K, 3)
    known = np.where(np.isnan(values[..., 0]), -1, values[..., 0]).max(0)
    shown = np.sort(np.argsort(known, kind="stable")[:PANELS])
    low = float(np.nanmin(values[..., :2], initial=1)) if not np.isnan(values[..., 0]).all() else 0.0
    cut = low > 0.75
    longest = max(len(classes[k]) for k in shown)
    columns = min(len(shown), max(1, min(5, 95 // max(longest, 1))))  # a name fits above its panel
    height = math.ceil(len(shown) / columns) * (0.19 * len(scores) + 0.62) + 0.3
    figure = Figure(figsize=(10.4, height), layout="constrained")
    panels = drawing.panels(figure, [classes[k] for k in shown], columns, "F1", sharex=True, sharey=True)
    for panel, k in zip(panels, shown, strict=True):
        _class_scores(panel, dict(zip(scores, values[:, k], strict=True)), cut)
    panels[0].set_xlim(low - 0.03 * (1 - low) if cut else 0.0, 1 + 0.02 * (1 - low if cut else 1))
    panels[0].xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _class_scores(panel: Axes, scores: Mapping[str, npt.NDArray[np.float64]], cut: bool) -> None:
    """Each model's mean, low and high end in a line of its own."""
    tones = colours(list(scores))
    known = [(row, mean, tones[name]) for row, (name, (mean, *_)) in enumerate(scores.items()) if not math.isnan(mean)]
    rows, means, shades = zip(*known, strict=True) if known else ((), (), ())
    if cut:
        panel.scatter(means, rows, s=4.5**2, c=shades, linewidth=0.45, zorder=3)
    else:
        panel.barh(rows, means, height=0.62, color=shades, alpha=0.75, linewidth=0.6)
    for row, (model, (_, low, high)) in enumerate(scores.items()):
        if not math.isnan(low):
            panel.plot([low, high], [row] * 2, color=tones[model] if cut else INK, linewidth=1.2, zorder=4)
    panel.set_yticks(range(len(scores)), list(scores))
    panel.set_ylim(len(scores) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", labelcolor=INK, labelsize=8.5)


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
            row |= summary(measure, value)
        rows.append(row | {"support": round(float(support.mean()))})
        texts = [spread(value) for value in values]
        cells.append((label, *texts, f"{support.mean():,.0f}"))
    header = ("Class", "Precision", "Recall", "F1", "Support")
    return Table(name, caption, pd.DataFrame(rows), header, tuple(cells), rules=(len(classes),))


def classification(model: Model, found: Found) -> Table:
    over = f"mean ± standard deviation over {model.n}" if model.replicates > 1 else model.n
    caption = f"{model.name} on {found.tested}: {over}."
    return classification_table(f"classification_{model.name}", model.confusions, found.data.names, caption)


def class_intervals(model: Model) -> list[Score]:
    """F1 of each class with its interval."""
    return [model.intervals[f"f1/{index}"].numbers for index in range(model.confusions.shape[-1])]
