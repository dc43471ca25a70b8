"""training: curves over epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.drawing import (
    GHOST,
    PALETTE,
    PAPER,
    SOFT,
    STYLE,
    _curves,
    _epochs,
    _mean,
    _score_limits,
    _small_multiples,
    colours,
)


def validation_macro_f1_figure(
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


def training_curves_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
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


def error_curves_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
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
