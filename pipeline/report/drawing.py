"""The report's figures: arrays in, matplotlib figures out; `save` writes PNG and SVG whose bytes a rerun reproduces.

Shapes: K classes, R replicates. One colour per model in every figure (`colours`), all of them told apart by
colour-blind readers (Okabe and Ito 2008). INK to PAPER are the only colours of text, lines and ground: a page may put
its own in their place. The SVGs keep text as text, so that it can be searched and read aloud.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, SOFT, GHOST, FAINT, PAPER = "#1f2933", "#5f6b7a", "#c2cad3", "#dde2e8", "#ffffff"
Score = tuple[float, float, float]  # mean, low and high end of its 95% interval; NaN where undefined
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8a8d91")
SHARES = LinearSegmentedColormap.from_list("shares", ["#f4f8fb", "#b9d4e8", "#5c9bc8", "#1e6aa5", "#0b3c66"])
DPI = 150
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "versus",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5
    "xtick.color": SOFT,
    "xtick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.color": SOFT,
    "ytick.labelsize": 9.5,
    "ytick.major.size": 0,
}


def colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, by its place in params.yaml; the palette repeats after eight."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(models)}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png and `name`.svg into `folder`; the same figure gives the same bytes."""
    with mpl.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
        undated = {"Date": None, "Creator": None}
        figure.savefig(folder / f"{name}.svg", metadata=undated, transparent=True, bbox_inches="tight")


def _curves(axes: Axes, runs: Sequence[pd.DataFrame], column: str, tone: str) -> None:
    """Replicates thin where there are several, their mean bold."""
    for run in runs if len(runs) > 1 else ():
        axes.plot(run["epoch"], run[column], color=tone, linewidth=0.7, alpha=0.45)
    mean = _mean(runs, column)
    axes.plot(mean.index, mean, color=tone, linewidth=2.2, zorder=4)


def _thousands(value: float) -> str:
    """25128 -> 25.1 k; 0.05 -> 0.05"""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _small_multiples(models: Sequence[str], across: str, up: str, one_across: bool = True) -> tuple[Figure, list[Axes]]:
    """A panel for each model, named in its colour, all of one scale; across, if not `one_across`, each of its own."""
    columns = min(len(models), 4 if len(models) <= 12 else 5)
    rows = math.ceil(len(models) / columns)
    width = {1: 4.2, 2: 3.9, 3: 3.5, 4: 3.0}.get(columns, 2.5)
    figure = Figure(figsize=(width * columns, 0.95 * width * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=one_across, sharey=True).ravel()
    for index, model in enumerate(models):
        axes[index].set_title(model)
        if index % columns == 0:
            axes[index].set_ylabel(up)
        if index + columns >= len(models):
            axes[index].set_xlabel(across)
            axes[index].tick_params(labelbottom=True)
    for unused in axes[len(models) :]:
        unused.set_visible(False)
    return figure, list(axes[: len(models)])


def _mean(runs: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """The mean over replicates of a history's column, at the epochs that all of them have."""
    return pd.concat([run.set_index("epoch")[column] for run in runs], axis=1).dropna().mean(axis=1)


def _epochs(axes: Axes, runs: Sequence[pd.DataFrame]) -> None:
    """From epoch 1 to the last of the runs, whatever else is drawn: a model of few epochs is not crushed by others."""
    last = max(int(run["epoch"].max()) for run in runs)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    axes.set_xlim(0.6, last + max(0.4, 0.03 * last))


def _score_limits(axes: Axes, curves: Sequence[pd.Series]) -> None:
    """From a little below the lowest score to a little above the highest; never beyond what a score can be.

    All of it where there is none.
    """
    values = np.concatenate([np.asarray(curve, dtype=float) for curve in curves])
    if np.isnan(values).all():
        axes.set_ylim(0, 1)
        return
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.04 * max(high - low, 0.02)
    axes.set_ylim(max(0.0, low - room), min(1.0, high + room) if high < 1 else 1.0)
