"""What the report's figures share: colours, style, panels of models, and `save`, which writes the same bytes again.

Shapes: K classes, R replicates. One colour per model in every figure (`colours`), all of them told apart by
colour-blind readers (Okabe and Ito 2008). INK to PAPER are the only colours of text, lines and ground: a page may put
its own in their place. Figures are matplotlib's and seaborn's, and unknown to pyplot; intervals are ours.
"""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.report.svg import compact

INK, SOFT, GHOST, FAINT, PAPER = "#1f2933", "#5f6b7a", "#c2cad3", "#dde2e8", "#ffffff"
Score = tuple[float, float, float]  # mean, low and high end of its 95% interval; NaN where undefined
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8a8d91")
SHARES = LinearSegmentedColormap.from_list("shares", ["#f4f8fb", "#b9d4e8", "#5c9bc8", "#1e6aa5", "#0b3c66"], N=64)
DASHED = (0, (4, 2))
PIXELS = 150  # of an inch of a heatmap
MARGIN = 0.1  # inches around a figure
Look = dict[str, Any]  # of a line
THIN: Look = {"linewidth": 0.8, "alpha": 0.5}
BOLD: Look = {"linewidth": 2.2}
SQUARE: Look = {"marker": "s", "ls": "", "markersize": 9}
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
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
    "axes.titley": 1.0,  # no search for what is in the way
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "path.simplify_threshold": 0.5,  # points
    "svg.fonttype": "none",  # text that can be searched and read aloud
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


@contextlib.contextmanager
def style(further: Mapping[str, Any] | None = None) -> Iterator[None]:
    """The looks of all figures and `further` ones, of a function that draws: `@style()`."""
    with mpl.rc_context(STYLE | dict(further or {})):
        yield


def colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, by its place in params.yaml; the palette repeats after eight."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(models)}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.svg into `folder`, cut to what is drawn; the same figure gives the same bytes.

    It is drawn once: `savefig(bbox_inches="tight")` draws a first time to learn where to cut, which a viewBox can be
    told afterwards. Axes without a word are left out of what is measured.
    """
    drawn, wordless = io.StringIO(), _wordless(figure)
    for line in (line for panel in figure.axes for line in panel.lines):
        line.get_path().should_simplify = True  # matplotlib would only for 128 points and more
    for axis in wordless:
        axis.set_in_layout(False)
    figure.patch.set_visible(False)
    figure.dpi = PIXELS
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None, "Creator": None})
        for axis in wordless:
            axis.set_visible(False)
        shown = figure.get_tightbbox().padded(MARGIN)  # inches from below
    sides = (shown.x0, figure.get_figheight() - shown.y1, shown.width, shown.height)
    left, top, width, height = (round(72 * inches, 2) for inches in sides)
    text = compact(drawn.getvalue(), name, (left, top, width, height))
    (folder / f"{name}.svg").write_text(text, encoding="utf-8")


def _wordless(figure: Figure) -> list[Axis]:
    """The axes that say nothing: no name, and no number at a tick."""
    axes = [each for panel in figure.axes for each in ((panel.xaxis, "labelbottom"), (panel.yaxis, "labelleft"))]
    nameless = [(axis, side) for axis, side in axes if not axis.get_label_text()]
    for axis, _ in nameless:
        axis.set_label_coords(0, 0)  # or it looks for the place of no name
    return [axis for axis, side in nameless if not axis.get_tick_params()[side]]


def panels(
    figure: Any, titles: Sequence[str], columns: int, across: str = "", up: str = "", **shared: Any
) -> list[Axes]:
    """A panel for each of the titles, in rows of `columns`; the outermost say what lies `across` and `up`."""
    axes = figure.subplots(math.ceil(len(titles) / columns), columns, squeeze=False, **shared).ravel()
    for index, (title, panel) in enumerate(zip(titles, axes, strict=False)):
        lowest = index + columns >= len(titles)
        panel.set(title=title, xlabel=across if lowest else "", ylabel="" if index % columns else up)
        panel.tick_params(labelbottom=lowest or not shared.get("sharex"))
    for unused in axes[len(titles) :]:
        unused.remove()
    return list(axes[: len(titles)])


def by_model(
    models: Sequence[str], across: str, up: str, height: float = 0.95, sharex: bool = True
) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each model, of one scale; `height` is a panel's, by its width."""
    columns = min(len(models), 4 if len(models) <= 16 else 5)
    width = {1: 6.4, 2: 4.6, 3: 3.5, 4: 2.9}.get(columns, 2.4)
    size = (width * columns, height * width * math.ceil(len(models) / columns) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    return figure, dict(
        zip(models, panels(figure, models, columns, across, up, sharex=sharex, sharey=True), strict=True)
    )


@contextlib.contextmanager
def _named(panel: Axes) -> Iterator[None]:
    """Have the panel's axes keep their names, which seaborn sets anew."""
    named = {"xlabel": panel.get_xlabel(), "ylabel": panel.get_ylabel()}
    yield
    panel.set(**named)


def line(panel: Axes, table: pd.DataFrame, x: str, y: str, by: str | None = None, **looks: Any) -> None:
    """A line for each value of the column `by`, or one; seaborn's takes ten times as long."""
    known = table[table[y].notna()].sort_values(x, kind="stable")
    for _, each in known.groupby(by, sort=False) if by else [("", known)]:
        panel.plot(each[x].to_numpy(), each[y].to_numpy(), **looks)


def curves(panel: Axes, runs: pd.DataFrame, x: str, y: str, tone: str, **looks: Any) -> None:
    """One model's replicates thin, where there are several, and their mean bold."""
    if len(set(runs["replicate"])) > 1:
        line(panel, runs, x, y, by="replicate", color=tone, **THIN, **looks)
    line(panel, means(runs, x, y), x, y, color=tone, **BOLD, **looks)


def compare(panels: Mapping[str, Axes], table: pd.DataFrame, x: str, y: str) -> None:
    """Each model's curves in its panel, in front of the means of the others in grey."""
    tones, end = colours(list(panels)), [[np.nan, np.nan]]
    known = means(table, x, y).dropna(subset=[y]).sort_values(x, kind="stable")
    drawn = {name: np.concatenate([each[[x, y]].to_numpy(), end]) for name, each in known.groupby("model", sort=False)}
    for model, panel in panels.items():
        others = [points for name, points in drawn.items() if name != model]
        if others:  # as one line with gaps
            panel.plot(*np.concatenate(others)[:-1].T, color=GHOST, linewidth=1.2)
        curves(panel, table[table["model"] == model], x, y, tones[model])


def heatmap(panel: Axes, shares: npt.NDArray[np.float64], **looks: Any) -> None:
    """Shares as coloured cells, and what `annot` says in them, in white or black of its own, not in the page's."""
    with _named(panel):
        sns.heatmap(shares, vmin=0, vmax=1, cmap=SHARES, cbar=False, xticklabels=[], yticklabels=[], ax=panel, **looks)
    panel.collections[0].set_clip_on(False)
    for text in list(panel.texts):
        text.set_color("#fefefe" if text.get_color() == "w" else "#12324d")
        text.set_in_layout(False)  # it is within its cell
        if not text.get_text():
            text.remove()


def key(figure: Figure, looks: Mapping[str, Look]) -> None:
    """A legend below all panels: what a line of each of the `looks` is."""
    lines = [Line2D([], [], **{"color": SOFT, **look}, label=label) for label, look in looks.items()]
    if lines:
        figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 6))


def stacked(histories: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """All models' histories as one table, with columns model and replicate."""
    runs = [
        run.assign(model=model, replicate=str(index))
        for model, each in histories.items()
        for index, run in enumerate(each)
    ]
    return pd.concat(runs, ignore_index=True)


def means(table: pd.DataFrame, x: str, column: str) -> pd.DataFrame:
    """Each model's mean of a column over replicates, at those `x` that all of them have."""
    found = table.groupby(["model", x], sort=False)[column].agg(["mean", "count"]).reset_index()
    whole = found["count"] == found["model"].map(table.groupby("model")["replicate"].nunique())
    return found[whole].rename(columns={"mean": column})


def epochs(panel: Axes, runs: Sequence[pd.DataFrame]) -> None:
    """From epoch 1 to the last of the runs, whatever else is drawn: a model of few epochs is not crushed by others."""
    last = max(int(run["epoch"].max()) for run in runs)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    panel.grid(visible=False, axis="x")
    panel.set_xlim(0.6, last + max(0.4, 0.03 * last))


def score_limits(panel: Axes, values: pd.Series) -> None:
    """From a little below the lowest score to a little above the highest; never beyond what a score can be.

    All of it where there is none.
    """
    low, high = (0.0, 1.0) if values.isna().all() else (float(values.min()), float(values.max()))
    room = 0.04 * max(high - low, 0.02)
    panel.set_ylim(max(0.0, low - room), min(1.0, high + room))
