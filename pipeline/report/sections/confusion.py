"""confusion: which class was taken for which."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.report import drawing
from pipeline.report.drawing import PAPER, style
from pipeline.report.found import Found, Model
from pipeline.report.pictures import embedded, lossless
from pipeline.report.section import Section

NAMED = 40  # classes at most whose names and cells can be told apart
SHAPES = 1200  # cells of a figure at most that are shapes of their own; more are pixels


MISTAKE = 144  # pixels a side at most, twice as many as the page shows


def section(found: Found) -> Section:
    counts = {model.name: model.confusions.sum(0) for model in found.models}
    words = {
        "counts": embedded(confusions(found)),
        "confused": {name: confused(each, found.data.names) for name, each in counts.items()},
        "mistakes": {model.name: mistakes(model) for model in found.models if model.first.mistakes},
    }
    figures = {"confusion_matrices": confusion_matrices_figure(counts, found.data.names)}
    return Section("Confusion", words, figures=figures)


@style({"axes.grid": False, "axes.linewidth": 0})
def confusion_matrices_figure(counts: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """Confusion matrices (K, K) of all models side by side, coloured by share of the actual class, counts in the cells.

    A count is left out where it is 0, and everywhere where there are too many classes for it to be read.
    """
    k, longest = len(classes), max(map(len, classes))
    columns = min(len(counts), 3 if len(counts) <= 9 else 4)
    rows = math.ceil(len(counts) / columns)
    side = float(np.clip(0.42 * k, 2.6, 4.6 if columns <= 3 else 3.3))  # inches
    labels = 0.07 * longest  # inches that class names take
    size = (columns * (side + 0.2) + labels + 1.2, rows * (side + 0.7 + (0.8 * labels if longest > 3 else 0)))
    figure = Figure(figsize=size)
    panels = drawing.panels(figure, list(counts), columns, "predicted", "actual")
    cells = {"rasterized": True} if len(counts) * k * k > SHAPES else {"linewidths": 1, "linecolor": PAPER}
    for index, (panel, matrix) in enumerate(zip(panels, counts.values(), strict=True)):
        _confusion_matrix(panel, matrix, side, cells)
        if k <= NAMED:
            _name_classes(panel, classes, side, rows=index % columns == 0)
    figure.set_layout_engine("constrained")
    place: drawing.Look = {"shrink": 0.85 / rows, "anchor": (0, 0.5 if rows == 1 else 0.97), "aspect": 26, "pad": 0.015}
    bar = figure.colorbar(panels[0].collections[0], ax=panels, format=PercentFormatter(1), **place)
    bar.set_label("share of the actual class", size=9.5)
    bar.outline.set_visible(False)
    return figure


def _confusion_matrix(panel: Axes, counts: npt.NDArray[np.int64], side: float, cells: Mapping[str, Any]) -> None:
    """One matrix, `side` inches wide; its counts where they can be read."""
    support = counts.sum(1, keepdims=True)  # (K, 1)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)  # (K, K)
    widest = 0.75 * max(len(str(counts.max())), 2)
    size = min(9.0, 72 * side / len(counts) / widest)  # points: the widest count fills its cell at most
    texts = {"annot": np.where(counts, counts.astype(str), ""), "fmt": "", "annot_kws": {"size": size}}
    drawing.heatmap(panel, shares, **cells, **(texts if size >= 4.5 else {}))
    panel.set_aspect("equal")


def _name_classes(panel: Axes, classes: Sequence[str], side: float, rows: bool) -> None:
    """Names of columns, aslant where they are long, and of `rows`."""
    places, long = np.arange(len(classes)) + 0.5, max(map(len, classes)) > 3
    aslant: drawing.Look = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    panel.set_xticks(places, classes, **aslant)
    panel.set_yticks(places, classes if rows else [""] * len(classes))
    panel.tick_params(pad=3, labelsize=min(9.5, 0.7 * 72 * side / len(classes)))


def confusions(found: Found) -> dict[str, Any]:
    """What the page's script draws the confusion matrices of two models from: counts summed over replicates."""
    return {
        "classes": found.data.names,
        "models": [
            {"name": model.name, "colour": found.colours[model.name], "counts": model.confusions.sum(0).tolist()}
            for model in found.models
        ],
    }


def confused(counts: npt.NDArray[np.int64], classes: Sequence[str], most: int = 4) -> str:
    """The pairs of classes that are taken for each other most, by the share of both classes' images."""
    support = counts.sum(1)  # (K,)
    pairs = [
        (int(counts[a, b] + counts[b, a]) / int(support[a] + support[b]), a, b)
        for a in range(len(classes))
        for b in range(a)
        if counts[a, b] + counts[b, a]
    ]
    ranked = sorted(pairs, reverse=True)[:most]
    return "; ".join(f"{classes[b]} and {classes[a]} ({share:.1%} of their images)" for share, a, b in ranked) or "none"


def mistakes(model: Model) -> list[dict[str, str]]:
    """A model's surest mistakes as evaluate left them: none of a data set whose images may not be passed on."""
    return [
        {
            "actual": each.actual,
            "predicted": each.predicted,
            "src": lossless(base64.b64decode(each.png), MISTAKE),
        }
        for each in model.first.mistakes
    ]
