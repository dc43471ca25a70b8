"""confusion: which class was taken for which."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.report import drawing
from pipeline.report.drawing import PAPER, SHARES, STYLE
from pipeline.report.results import Model


def confusion_matrices_figure(counts: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """Confusion matrices (K, K) of all models side by side, coloured by share of the actual class, counts in the cells.

    A count is left out where it is 0, and everywhere where there are too many classes for it to be read.
    """
    k, longest = len(classes), max(map(len, classes))
    columns = min(len(counts), 3 if len(counts) <= 9 else 4)
    rows = math.ceil(len(counts) / columns)
    side = float(np.clip(0.42 * k, 2.6, 4.6 if columns <= 3 else 3.3))  # inches
    labels = 0.07 * longest  # inches that class names take
    with mpl.rc_context(STYLE | {"axes.grid": False, "axes.linewidth": 0}):
        size = (columns * (side + 0.2) + labels + 1.2, rows * (side + 0.7 + (0.8 * labels if longest > 3 else 0)))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        mesh = None
        for index, (model, matrix) in enumerate(counts.items()):
            mesh = _confusion_matrix(axes[index], matrix, classes, side)
            axes[index].set_title(model)
            axes[index].set_xlabel("predicted")
            if index % columns == 0:
                axes[index].set_ylabel("actual")
        for unused in axes[len(counts) :]:
            unused.set_visible(False)
        if mesh is not None:
            bar = figure.colorbar(
                mesh, ax=axes, shrink=0.85 / rows, anchor=(0, 0.5 if rows == 1 else 0.97), aspect=26, pad=0.015
            )
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
            bar.set_label("share of the actual class", size=9.5)
            bar.outline.set_visible(False)
    return figure


def _confusion_matrix(axes: Axes, counts: npt.NDArray[np.int64], classes: Sequence[str], side: float) -> QuadMesh:
    k = len(classes)
    support = counts.sum(1, keepdims=True)  # (K, 1)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)  # (K, K)
    edge = PAPER if k <= 40 else "face"
    mesh = axes.pcolormesh(shares, cmap=SHARES, vmin=0, vmax=1, edgecolors=edge, linewidth=1.0, rasterized=k > 40)
    axes.set(aspect="equal", xlim=(0, k), ylim=(k, 0))
    if k <= 40:
        long = max(map(len, classes)) > 3
        axes.set_xticks(np.arange(k) + 0.5, classes, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(np.arange(k) + 0.5, classes)
        axes.tick_params(pad=3, labelsize=min(9.5, 0.7 * 72 * side / k), rotation_mode="anchor", axis="x")
        axes.tick_params(pad=3, labelsize=min(9.5, 0.7 * 72 * side / k), axis="y")
    else:
        axes.set(xticks=[], yticks=[])
    digits = len(str(counts.max()))
    size = min(9.0, 72 * side / k / (0.75 * max(digits, 2)))  # points: the widest count fills its cell at most
    if size >= 4.5:
        for row, column in np.argwhere(counts):
            tone = "#fefefe" if shares[row, column] > 0.45 else "#12324d"
            text = str(counts[row, column])
            axes.text(column + 0.5, row + 0.53, text, ha="center", va="center", size=size, color=tone)
    return mesh


def confusion(models: Sequence[Model], data: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script draws the confusion matrices of two models from: counts summed over replicates."""
    tones = drawing.colours([model.name for model in models])
    return {
        "classes": [each["class"] for each in data["classes"]],
        "models": [
            {"name": model.name, "colour": tones[model.name], "counts": model.confusions.sum(0).tolist()}
            for model in models
        ],
    }


def confused(models: Sequence[Model], data: Mapping[str, Any], most: int = 4) -> list[tuple[str, str]]:
    """Each model with the pairs of classes that it takes for each other most, by the share of both classes' images."""
    classes = [each["class"] for each in data["classes"]]
    found = []
    for model in models:
        counts = model.confusions.sum(0)  # (K, K)
        support = counts.sum(1)
        pairs_of_classes = [
            (int(counts[a, b] + counts[b, a]) / int(support[a] + support[b]), a, b)
            for a in range(len(classes))
            for b in range(a)
            if counts[a, b] + counts[b, a]
        ]
        ranked = sorted(pairs_of_classes, reverse=True)[:most]
        texts = [f"{classes[b]} and {classes[a]} ({share:.1%} of their images)" for share, a, b in ranked]
        found.append((model.name, "; ".join(texts) or "none"))
    return found
