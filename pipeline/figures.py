"""The report's figures: arrays in, matplotlib figures out; `save` writes PNG and SVG whose bytes a rerun reproduces.

Shapes: K classes, R replicates. One colour per model in every figure (`colours`), all of them told apart by
colour-blind readers (Okabe and Ito 2008). INK to PAPER are the only colours of text, lines and ground: a page may put
its own in their place. The SVGs keep text as text, so that it can be searched and read aloud.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

INK, SOFT, GHOST, FAINT, PAPER = "#1f2933", "#5f6b7a", "#c2cad3", "#dde2e8", "#ffffff"
Score = tuple[float, float, float]  # mean, low and high end of its 95% interval; NaN where undefined
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8a8d91")
MAJORITY, MINORITY = "#5b88b0", "#e08e45"  # differ in lightness too
SHARES = LinearSegmentedColormap.from_list("shares", ["#f4f8fb", "#b9d4e8", "#5c9bc8", "#1e6aa5", "#0b3c66"])
DPI = 150
PANELS = 20  # classes of `class_scores` at most
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


def confusion_matrices(counts: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]) -> Figure:
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


def validation_macro_f1(
    histories: Mapping[str, Sequence[pd.DataFrame]], selected: Mapping[str, Sequence[tuple[int, float | None]]]
) -> Figure:
    """Validation macro-F1 over epochs, a panel per model: replicates thin, their mean bold, evaluated epochs marked.

    Other models' means stand behind in grey. Histories have columns epoch and val_macro_f1, which is NaN of a model
    that was trained on the validation images too; `selected` gives each replicate's evaluated epoch and the score of
    the weights that were evaluated: an average has one of its own.
    """
    tones = colours(list(histories))
    columns = min(len(histories), 4 if len(histories) <= 12 else 5)
    rows = math.ceil(len(histories) / columns)
    width = {1: 6.4, 2: 4.6, 3: 3.7, 4: 3.1}.get(columns, 2.6)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, (3.2 if columns <= 4 else 2.6) * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        means = {model: _mean(runs, "val_macro_f1") for model, runs in histories.items()}
        for index, (model, runs) in enumerate(histories.items()):
            panel = axes[index]
            for other, mean in means.items():
                if other != model:
                    panel.plot(mean.index, mean, color=GHOST, linewidth=1.6, zorder=1)
            for history, (epoch, score) in zip(runs, selected[model], strict=True):
                panel.plot(history["epoch"], history["val_macro_f1"], color=tones[model], linewidth=0.8, alpha=0.55)
                panel.plot(
                    epoch,
                    math.nan if score is None else score,
                    "o",
                    markersize=6,
                    mfc=PAPER,
                    mec=tones[model],
                    mew=1.5,
                    zorder=5,
                    clip_on=False,
                )
            panel.plot(means[model].index, means[model], color=tones[model], linewidth=2.2, zorder=4)
            panel.set_title(model)
            if means[model].isna().all():
                text = "trained on validation\nimages too: no score"
                panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", size=9, color=SOFT)
            if index % columns == 0:
                panel.set_ylabel("validation macro-F1")
            if index + columns >= len(histories):
                panel.set_xlabel("epoch")
            _epochs(panel, runs)
        for unused in axes[len(histories) :]:
            unused.set_visible(False)
        chosen = pd.Series([score for each in selected.values() for _, score in each], dtype=float)
        _score_limits(axes[0], [chosen, *(run["val_macro_f1"] for runs in histories.values() for run in runs)])
        several = any(len(runs) > 1 for runs in histories.values())
        keys = [Line2D([], [], color=SOFT, linewidth=2.2, label="mean" if several else "the model")]
        keys += [Line2D([], [], color=SOFT, linewidth=0.8, alpha=0.7, label="replicate")] * several
        keys += [Line2D([], [], color=SOFT, marker="o", ls="", mfc=PAPER, mew=1.5, label="epoch evaluated")]
        keys += [
            Line2D([], [], color=GHOST, linewidth=1.6, label="means of the others" if several else "other models")
        ] * (len(histories) > 1)
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9.5)
    return figure


def training_curves(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Training loss and validation accuracy over epochs: replicates thin, their mean bold, a colour per model.

    More models than there are colours have a small panel each, the means of the others in grey behind.
    """
    quantities = {"train_loss": "Training loss", "val_accuracy": "Validation accuracy"}
    if len(histories) > len(PALETTE):
        return _training_panels(histories, quantities)
    tones = colours(list(histories))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.7), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, (column, title) in zip(panels, quantities.items(), strict=True):
            for model, runs in histories.items():
                _curves(panel, runs, column, tones[model])
            panel.set(title=title, xlabel="epoch")
            _epochs(panel, [run for runs in histories.values() for run in runs])
        panels[0].set_ylim(bottom=0)
        _score_limits(panels[1], [run["val_accuracy"] for runs in histories.values() for run in runs])
        keys = [Line2D([], [], color=tones[model], linewidth=2.2, label=model) for model in histories]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 6))
    return figure


def _training_panels(histories: Mapping[str, Sequence[pd.DataFrame]], quantities: Mapping[str, str]) -> Figure:
    tones = colours(list(histories))
    columns = 6
    rows = math.ceil(len(histories) / columns)
    with mpl.rc_context(
        STYLE | {"axes.titlesize": 9.5, "axes.titlepad": 4, "xtick.labelsize": 8, "ytick.labelsize": 8}
    ):
        figure = Figure(figsize=(2.0 * columns, 2 * (1.65 * rows + 0.5)), layout="constrained")
        parts: Any = figure.subfigures(2, 1)
        for part, (column, title) in zip(parts, quantities.items(), strict=True):
            part.suptitle(title, x=0.005, ha="left", weight="bold", size=11.5)
            panels = part.subplots(rows, columns, sharey=True, squeeze=False).ravel()
            means = {model: _mean(runs, column) for model, runs in histories.items()}
            for panel, (model, runs) in zip(panels, histories.items(), strict=False):
                for other in (name for name in histories if name != model):
                    panel.plot(means[other].index, means[other], color=GHOST, linewidth=0.8, zorder=1)
                _curves(panel, runs, column, tones[model])
                panel.set_title(model)
                _epochs(panel, runs)
            for unused in panels[len(histories) :]:
                unused.set_visible(False)
            for panel in panels[max(0, len(histories) - columns) : len(histories)]:
                panel.set_xlabel("epoch", size=8)
            if column == "train_loss":
                panels[0].set_ylim(bottom=0)
            else:
                _score_limits(panels[0], [run[column] for runs in histories.values() for run in runs])
    return figure


def error_curves(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Error, 1 - accuracy, over epochs, a panel per model: training (augmented images) dashed, validation solid.

    Means over replicates, each replicate thin behind. Histories have columns epoch, train_accuracy, val_accuracy.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _small_multiples(list(histories), "epoch", "error", one_across=False)
        tones = colours(list(histories))
        for (model, runs), panel in zip(histories.items(), panels, strict=True):
            for column, dashes in (("train_accuracy", (0, (4, 2))), ("val_accuracy", "solid")):
                for run in runs if len(runs) > 1 else ():
                    panel.plot(run["epoch"], 1 - run[column], color=tones[model], linewidth=0.7, alpha=0.4)
                mean = 1 - _mean(runs, column)
                panel.plot(mean.index, mean, color=tones[model], linewidth=1.9, linestyle=dashes, zorder=4)
            _epochs(panel, runs)
        panels[0].set_ylim(bottom=0)
        keys = [
            Line2D([], [], color=SOFT, linewidth=1.9, label="validation"),
            Line2D([], [], color=SOFT, linewidth=1.9, linestyle=(0, (4, 2)), label="training, augmented"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9.5)
    return figure


def metric_chart(scores: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """Several metrics side by side, a group of bars for each and in it a bar per model: mean, low, high."""
    tones = colours(list(scores))
    names = list(next(iter(scores.values())))
    wide = 0.84 / len(scores)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(float(np.clip(0.28 * len(scores) * len(names) + 2, 7, 15)), 3.9), layout="constrained")
        panel = figure.subplots()
        for index, (model, values) in enumerate(scores.items()):
            places = np.arange(len(names)) + (index - (len(scores) - 1) / 2) * wide
            means, lows, highs = np.array([values[name] for name in names]).T
            panel.bar(places, means, width=0.9 * wide, color=tones[model], label=model)
            errors = np.nan_to_num(np.clip(np.stack([means - lows, highs - means]), 0, None))
            panel.errorbar(places, means, errors, fmt="none", ecolor=INK, elinewidth=0.9, capsize=min(3, 20 * wide))
        panel.set(ylim=(0, 1), xlim=(-0.6, len(names) - 0.4))
        panel.set_xticks(np.arange(len(names)), names)
        panel.tick_params(axis="x", labelcolor=INK)
        panel.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=min(len(scores), 6), fontsize=9.5)
    return figure


Triple = tuple[float, float, float]  # mean, low, high


def ablation_axis(setting: str, lines: Mapping[str, Sequence[tuple[str, Triple, Triple]]]) -> Figure:
    """Validation (dashed) and test macro-F1 (with its interval) over a setting's values, a colour per model."""
    tones = colours(list(lines))
    values = list(dict.fromkeys(value for points in lines.values() for value, _, _ in points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, 0.9 * len(values) + 2.5), 3.4), layout="constrained")
        panel = figure.subplots()
        for model, points in lines.items():
            places = [values.index(value) for value, _, _ in points]
            for index, (dashes, marker) in enumerate(((((0, (4, 2))), "s"), ("solid", "o"))):
                means, lows, highs = np.array([point[1 + index] for point in points]).T
                errors = np.nan_to_num(np.clip(np.stack([means - lows, highs - means]), 0, None))
                panel.errorbar(
                    np.array(places) + (index - 0.5) * 0.08,
                    means,
                    errors,
                    linestyle=dashes,
                    marker=marker,
                    markersize=4.5,
                    color=tones[model],
                    capsize=3,
                )
        panel.set_xticks(np.arange(len(values)), values)
        panel.set(xlabel=setting, ylabel="macro-F1", xlim=(-0.5, len(values) - 0.5))
        _ablation_key(figure, tones)
    return figure


def main_effects(effects: Mapping[str, Mapping[str, Sequence[tuple[str, float, float]]]]) -> Figure:
    """Mean validation (dashed) and test macro-F1 over a setting's values, a panel per setting, a colour per model."""
    models = list(dict.fromkeys(model for lines in effects.values() for model in lines))
    tones = colours(models)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(effects) + 0.6, 3.4), layout="constrained")
        panels = figure.subplots(1, len(effects), squeeze=False, sharey=True)[0]
        for panel, (setting, lines) in zip(panels, effects.items(), strict=True):
            for model, points in lines.items():
                names = [value for value, _, _ in points]
                panel.plot(names, [point[1] for point in points], "s--", markersize=4.5, color=tones[model])
                panel.plot(names, [point[2] for point in points], "o-", markersize=4.5, color=tones[model])
            panel.set_xlabel(setting)
            panel.margins(x=0.2)
        panels[0].set_ylabel("mean macro-F1")
        _ablation_key(figure, tones)
    return figure


def _ablation_key(figure: Figure, tones: Mapping[str, str]) -> None:
    keys = [Line2D([], [], color=tone, linewidth=2.2, label=model) for model, tone in tones.items()]
    keys += [
        Line2D([], [], color=SOFT, marker="s", markersize=4.5, linestyle=(0, (4, 2)), label="validation"),
        Line2D([], [], color=SOFT, marker="o", markersize=4.5, label="test"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 6), fontsize=9.5)


def learning_curves(curves: Mapping[str, Sequence[tuple[int, float, float, float]]]) -> Figure:
    """Test macro-F1 against the number of training images, a line per family: images, mean, low, high of each point."""
    tones = colours(list(curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.3), layout="constrained")
        panel = figure.subplots()
        for name, points in curves.items():
            images, means, lows, highs = np.array(points, dtype=float).T
            panel.fill_between(images, lows, highs, color=tones[name], alpha=0.15, linewidth=0)
            errors = np.nan_to_num(np.clip(np.stack([means - lows, highs - means]), 0, None))
            panel.errorbar(images, means, errors, fmt="o-", color=tones[name], linewidth=2, capsize=3, label=name)
        panel.set_xscale("log")
        ticks = sorted({point[0] for points in curves.values() for point in points})
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
        panel.set(xlabel="training images", ylabel="test macro-F1")
        panel.legend(loc="lower right")
    return figure


def _curves(axes: Axes, runs: Sequence[pd.DataFrame], column: str, tone: str) -> None:
    """Replicates thin where there are several, their mean bold."""
    for run in runs if len(runs) > 1 else ():
        axes.plot(run["epoch"], run[column], color=tone, linewidth=0.7, alpha=0.45)
    mean = _mean(runs, column)
    axes.plot(mean.index, mean, color=tone, linewidth=2.2, zorder=4)


def latency(seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Each model's CPU seconds over all test images as a bar, the mean of its rounds (R,), a dot for each.

    The mean's number stands behind the longest.
    """
    tones = colours(list(seconds))
    means = [float(np.mean(values)) for values in seconds.values()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.36 * len(seconds) + 0.9), layout="constrained")
        panel = figure.subplots()
        panel.barh(np.arange(len(means)), means, height=0.66, color=list(tones.values()))
        for row, values in enumerate(seconds.values()):
            if len(values) > 1:
                panel.plot(values, [row] * len(values), "o", markersize=4, mfc=PAPER, mec=INK, mew=0.9, clip_on=False)
            end = max(values)
            panel.annotate(
                f"{'mean ' * (len(values) > 1)}{f'{means[row]:#.3g}'.rstrip('.')} s",
                (end, row),
                (7, 0),
                textcoords="offset points",
                va="center",
                size=9,
                color=SOFT,
            )
        panel.set(xlabel="CPU seconds over all test images", xlim=(0, 1.2 * max(map(max, seconds.values()))))
        panel.set_ylim(len(means) - 0.5, -0.5)
        panel.set_yticks(np.arange(len(means)), list(seconds))
        panel.tick_params(axis="y", labelcolor=INK)
        panel.spines["left"].set_visible(False)
        panel.grid(visible=False, axis="y")
    return figure


def trade_off(
    across: Mapping[str, float], accuracy: Mapping[str, Score], parameters: Mapping[str, int], label: str
) -> Figure:
    """Accuracy with its 95% interval against what `across` costs, a circle for each model, its area the parameters.

    A line joins the models that no other beats in both. `across` and `parameters` are above 0; a logarithmic axis
    where the largest cost is more than five times the smallest. Of eight models or fewer the parameters are named.
    """
    tones, names = colours(list(across)), list(across)
    x, y = (np.array([float(each) for each in values]) for values in (across.values(), [accuracy[n][0] for n in names]))
    area = 12 + 1100 * np.array([parameters[name] for name in names]) / max(parameters.values())  # square points
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.9), layout="constrained")
        panel = figure.subplots()
        best = pareto(x, y)
        panel.plot(x[best], y[best], color=GHOST, linewidth=1.4, zorder=1)
        for index, (name, tone) in enumerate(tones.items()):
            _, low, high = accuracy[name]
            if not math.isnan(low):
                panel.plot([x[index]] * 2, [low, high], color=tone, linewidth=1.3, zorder=2)
            panel.scatter(x[index], y[index], s=area[index], color=tone, alpha=0.28, linewidth=0, zorder=3)
            panel.scatter(x[index], y[index], s=16, color=tone, linewidth=0, zorder=4)
        if x.max() > 5 * x.min():
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlim(x.min() / 1.6, x.max() * 2.2)
        else:
            room = max(float(np.ptp(x)), 0.2 * x.max())
            panel.set_xlim(x.min() - 0.15 * room, x.max() + 0.3 * room)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
        panel.margins(y=0.14)
        panel.set(xlabel=label, ylabel="accuracy")
        texts = names if len(names) > 8 else [f"{name}, {_thousands(parameters[name])}" for name in names]
        figure.draw_without_rendering()  # places are known only behind the layout
        dots = panel.transData.transform(np.column_stack([x, y])) * 72 / figure.dpi  # points
        for index, (shift, side) in enumerate(label_places(dots, texts, np.sqrt(area / np.pi))):
            panel.annotate(
                texts[index],
                (x[index], y[index]),
                tuple(shift),
                textcoords="offset points",
                ha=side,
                va="center",
                size=9,
                color=INK,
                zorder=5,
            )
    return figure


def pareto(cost: npt.NDArray[np.float64], score: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The rows (P,) that no other beats in both, lowest cost first."""
    order = np.lexsort((-score, cost))
    best = np.maximum.accumulate(score[order])
    return order[np.r_[True, score[order][1:] > best[:-1]]]


def label_places(
    dots: npt.NDArray[np.float64], texts: Sequence[str], radii: npt.NDArray[np.float64], size: float = 9
) -> list[tuple[npt.NDArray[np.float64], str]]:
    """For each dot (M, 2), in points, where its text starts from it, and its alignment: with the least overlap.

    Dots are seen from the most crowded to the freest; a text may lie beside, above or below its dot, and further off.
    """
    width = np.array([0.58 * size * len(text) for text in texts])
    crowd = (np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) < 60).sum(1)
    taken = [np.array([x - 4, y - 4, x + 4, y + 4]) for x, y in dots]
    found: dict[int, tuple[npt.NDArray[np.float64], str]] = {}
    for index in np.argsort(-crowd, kind="stable"):
        gap = min(radii[index], 9) + 3
        choices: list[tuple[float, int, npt.NDArray[np.float64], str, npt.NDArray[np.float64]]] = []
        for far in (1.0, 1.7, 2.6, 3.6):
            for side, dx, dy in (
                ("left", gap, 0),
                ("left", 0.7 * gap * far, 0.8 * gap * far),
                ("left", 0.7 * gap * far, -0.8 * gap * far),
                ("right", -gap, 0),
                ("right", -0.7 * gap * far, 0.8 * gap * far),
                ("right", -0.7 * gap * far, -0.8 * gap * far),
            ):
                left = dots[index][0] + dx - (width[index] if side == "right" else 0)
                box = np.array([left, dots[index][1] + dy - 0.6 * size, left + width[index], 0])
                box[3] = box[1] + 1.2 * size
                crossed = sum(_overlap(box, other) for place, other in enumerate(taken) if place != index)
                outside = 1e4 * (box[0] < dots[:, 0].min() - 60)
                choices.append((crossed + outside + 2 * far, len(choices), np.array([dx, dy]), side, box))
        _, _, shift, side, box = min(choices, key=lambda choice: choice[:2])
        taken.append(box)
        found[int(index)] = (shift, side)
    return [found[index] for index in range(len(texts))]


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(np.clip(sides, 0, None)))


def _thousands(value: float) -> str:
    """25128 -> 25.1 k; 0.05 -> 0.05"""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def class_scores(scores: Mapping[str, Sequence[Score]], classes: Sequence[str]) -> Figure:
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


def reliability(bins: Mapping[str, Sequence[tuple[npt.NDArray[np.float64], ...]]]) -> Figure:
    """Accuracy against confidence, a panel per model: a line for each replicate, its images' shares as bars below.

    `bins` has confidence, accuracy and share (bins,) of each replicate; the diagonal is perfect calibration.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _small_multiples(list(bins), "confidence", "accuracy")
        for (model, runs), panel in zip(bins.items(), panels, strict=True):
            tone = colours(list(bins))[model]
            share = np.mean([run[2] for run in runs], axis=0)
            width = 1 / len(share)
            panel.bar((np.arange(len(share)) + 0.5) * width, share, width=0.86 * width, color=GHOST, zorder=1)
            panel.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
            for sure, accuracy, run_share in runs:
                known = ~np.isnan(sure)
                panel.plot(sure[known], accuracy[known], color=tone, linewidth=1, alpha=0.6, zorder=3)
                area = 8 + 60 * run_share[known]  # a point of few images is an uncertain one
                panel.scatter(sure[known], accuracy[known], s=area, color=tone, alpha=0.8, linewidth=0, zorder=4)
            panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1))
        keys = [
            Line2D([], [], color=SOFT, marker="o", markersize=4.5, linewidth=1, label="replicate"),
            Line2D([], [], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated"),
            Line2D([], [], marker="s", ls="", markersize=8, color=GHOST, label="share of the images"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def selective_prediction(coverage: npt.NDArray[np.float64], curves: Mapping[str, npt.NDArray[np.float64]]) -> Figure:
    """Accuracy on the images that a model is surest of, against their share: a panel per model, the others in grey.

    `coverage` is (C,), curves are (R, C): replicates thin, their mean bold.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _small_multiples(list(curves), "coverage", "accuracy")
        for (model, runs), panel in zip(curves.items(), panels, strict=True):
            tone = colours(list(curves))[model]
            for other in (name for name in curves if name != model):
                panel.plot(coverage, curves[other].mean(0), color=GHOST, linewidth=1.2, zorder=1)
            for run in runs if len(runs) > 1 else ():
                panel.plot(coverage, run, color=tone, linewidth=0.8, alpha=0.55)
            panel.plot(coverage, runs.mean(0), color=tone, linewidth=2.2, zorder=4)
            panel.set(xlim=(0, 1), xticks=(0, 0.5, 1))
            panel.xaxis.set_major_formatter(PercentFormatter(1))
        values = np.concatenate([runs[:, coverage >= 0.05].ravel() for runs in curves.values()])
        if not np.isnan(values).all():
            low = float(np.nanmin(values))
            panels[0].set_ylim(max(0.0, low - 0.04 * max(1 - low, 0.02)), 1 + 0.02 * (1 - low))
    return figure


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


def class_distribution(
    classes: Sequence[str], splits: Mapping[str, Sequence[int]], minority: Sequence[str] = ()
) -> Figure:
    """Images per class, a panel for each split with its own scale; minority classes in a second colour.

    `splits` maps a split's name to its counts (K,). With more than 40 classes they are sorted by the first split's
    counts and go unnamed.
    """
    counts = {name: np.asarray(values) for name, values in splits.items()}
    many = len(classes) > 40
    order = np.argsort(-next(iter(counts.values())), kind="stable") if many else np.arange(len(classes))
    tones = [MINORITY if classes[index] in minority else MAJORITY for index in order]
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        height = 4.5 if many else 0.27 * len(classes) + 1.25
        figure = Figure(figsize=(10.4, height), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
        for panel, (split, values) in zip(panels, counts.items(), strict=True):
            bars = panel.barh(np.arange(len(order)), values[order], height=1.0 if many else 0.74, color=tones)
            panel.set_title(f"{split}: {values.sum():,} images")
            panel.spines[["left", "bottom"]].set_visible(False)
            if many:
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            else:
                panel.bar_label(bars, [f"{value:,}" for value in values[order]], padding=3, fontsize=9, color=SOFT)
                panel.set_xticks([])
                panel.margins(x=0.16)
        panels[0].set_ylim(len(order) - 0.4, -0.6)
        panels[0].set_yticks([] if many else np.arange(len(order)), [] if many else [classes[index] for index in order])
        panels[0].tick_params(axis="y", labelcolor=INK)
        if minority:
            keys = [
                Line2D([], [], marker="s", ls="", markersize=9, color=MINORITY, label="minority class"),
                Line2D([], [], marker="s", ls="", markersize=9, color=MAJORITY, label="other class"),
            ]
            figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9.5, handletextpad=0.2)
    return figure


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


def augmentation(rows: Mapping[str, npt.NDArray[np.uint8]], first: str = "as it is") -> Figure:
    """Images (V, H, W, 3) of one row each, named at its left: what `first` says, then augmented ones."""
    columns = max(len(images) for images in rows.values())
    with mpl.rc_context(STYLE | {"axes.grid": False, "axes.linewidth": 0}):
        figure = Figure(figsize=(0.9 * columns + 1.6, 0.93 * len(rows) + 0.3), layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, (name, images) in zip(axes, rows.items(), strict=True):
            for axis, image in zip(row, images, strict=True):
                axis.imshow(image, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel(name, rotation=0, ha="right", va="center", size=9.5)
        axes[0][0].set_title(first, size=9.5)
        axes[0][1].set_title("augmented", size=9.5)
    return figure
