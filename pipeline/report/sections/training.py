"""training: curves over epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report import drawing
from pipeline.report.drawing import BOLD, DASHED, GHOST, PALETTE, PAPER, SOFT, THIN, colours, curves, style
from pipeline.report.found import Found
from pipeline.report.section import Section

Histories = Mapping[str, Sequence[pd.DataFrame]]

QUANTITIES = {"train_loss": "Training loss", "val_accuracy": "Validation accuracy"}


def section(found: Found) -> Section:
    histories = {model.name: model.histories for model in found.models}
    selected = {
        model.name: [(each.selected.epoch, each.selected.val_macro_f1) for each in model.evaluations]
        for model in found.models
    }
    averaged = [m.name for m in found.models if m.validated and m.first.config["train"]["select"] == "average"]
    taught = {model.name: model.taught for model in found.models if model.teacher}
    return Section(
        "Training",
        {"averaged": averaged, "taught": taught, "in_panels": len(found.models) > len(PALETTE)},
        figures={
            "validation_macro_f1": validation_macro_f1_figure(histories, selected),
            "training_curves": training_curves_figure(histories),
        },
    )


@style()
def validation_macro_f1_figure(
    histories: Histories, selected: Mapping[str, Sequence[tuple[int, float | None]]]
) -> Figure:
    """Validation macro-F1 over epochs, a panel per model: replicates thin, their mean bold, evaluated epochs marked.

    Other models' means stand behind in grey. Histories have columns epoch and val_macro_f1, which is NaN of a model
    that was trained on the validation images too; `selected` gives each replicate's evaluated epoch and the score of
    the weights that were evaluated: an average has one of its own.
    """
    column, table = "val_macro_f1", drawing.stacked(histories)
    figure, panels = drawing.by_model(list(histories), "epoch", "validation macro-F1", height=0.75, sharex=False)
    drawing.compare(panels, table, "epoch", column)
    circle: drawing.Look = {"marker": "o", "ls": "", "mfc": PAPER, "mew": 1.5}
    for (model, panel), tone in zip(panels.items(), colours(list(histories)).values(), strict=True):
        chosen = np.array(selected[model], dtype=float).T
        panel.plot(*chosen, **circle, markersize=6, mec=tone, clip_on=False, zorder=4)
        if all(run[column].isna().all() for run in histories[model]):
            text = "trained on validation\nimages too: no score"
            panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", size=9, color=SOFT)
        drawing.epochs(panel, histories[model])
    scores = [score for each in selected.values() for _, score in each]
    drawing.score_limits(panel, pd.concat([table[column], pd.Series(scores, dtype=float)]))
    several = max(map(len, histories.values())) > 1
    looks = {"mean": BOLD, "replicate": THIN} if several else {"the model": BOLD}
    looks["epoch evaluated"] = circle
    if len(histories) > 1:
        looks["means of the others" if several else "other models"] = {"color": GHOST, "linewidth": 1.2}
    drawing.key(figure, looks)
    return figure


@style()
def training_curves_figure(histories: Histories) -> Figure:
    """Training loss and validation accuracy over epochs: replicates thin, their mean bold, a colour per model.

    More models than there are colours have a small panel each, the means of the others in grey behind.
    """
    table, tones = drawing.stacked(histories), colours(list(histories))
    if len(histories) > len(PALETTE):
        return _training_panels(histories, table)
    figure = Figure(figsize=(10.4, 3.7), layout="constrained")
    panels = drawing.panels(figure, list(QUANTITIES.values()), 2, "epoch")
    for panel, column in zip(panels, QUANTITIES, strict=True):
        for model, tone in tones.items():
            curves(panel, table[table["model"] == model], "epoch", column, tone)
        drawing.epochs(panel, [run for runs in histories.values() for run in runs])
        _limits(panel, table[column])
    drawing.key(figure, {model: {"color": tone, **BOLD} for model, tone in tones.items()})
    return figure


def _training_panels(histories: Histories, table: pd.DataFrame) -> Figure:
    """Rows of panels for each quantity below the other, a panel for each model."""
    columns = 6
    figure = Figure(figsize=(2.0 * columns, 3.3 * math.ceil(len(histories) / columns) + 1), layout="constrained")
    parts: Any = figure.subfigures(2, 1)
    for part, (column, title) in zip(parts, QUANTITIES.items(), strict=True):
        part.suptitle(title, x=0.005, ha="left", weight="bold", size=11.5)
        panels = drawing.panels(part, list(histories), columns, "epoch", sharey=True)
        drawing.compare(dict(zip(histories, panels, strict=True)), table, "epoch", column)
        for panel, runs in zip(panels, histories.values(), strict=True):
            panel.title.set_fontsize(9.5)
            panel.xaxis.label.set_fontsize(8)
            panel.tick_params(labelsize=8)
            drawing.epochs(panel, runs)
        _limits(panels[0], table[column])
    return figure


def _limits(panel: Axes, values: pd.Series) -> None:
    """A loss from 0, a score where it lies."""
    if values.name == "train_loss":
        panel.set_ylim(bottom=0)
    else:
        drawing.score_limits(panel, values)


@style()
def error_curves_figure(histories: Histories) -> Figure:
    """Error, 1 - accuracy, over epochs, a panel per model: training (augmented images) dashed, validation solid.

    Means over replicates, each replicate thin behind. Histories have columns epoch, train_accuracy, val_accuracy.
    """
    figure, panels = drawing.by_model(list(histories), "epoch", "error", sharex=False)
    table = drawing.stacked(histories)
    table["training"], table["validation"] = 1 - table["train_accuracy"], 1 - table["val_accuracy"]
    for (model, panel), tone in zip(panels.items(), colours(list(histories)).values(), strict=True):
        runs = table[table["model"] == model]
        curves(panel, runs, "epoch", "training", tone, linestyle=DASHED)
        curves(panel, runs, "epoch", "validation", tone)
        drawing.epochs(panel, histories[model])
    panel.set_ylim(bottom=0)
    drawing.key(figure, {"validation": BOLD, "training, augmented": {**BOLD, "linestyle": DASHED}})
    return figure
