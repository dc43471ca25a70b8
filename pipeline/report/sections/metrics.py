"""metrics: accuracy, precision, recall and F1 side by side."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pipeline.report import drawing
from pipeline.report.drawing import INK, SQUARE, colours, style
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.sections.comparison import caption
from pipeline.report.sections.training import error_curves_figure
from pipeline.report.table import Table, model_frame
from pipeline.report.words import MEASURE_TITLES, score_interval
from pipeline.scoring.intervals import Interval


def section(found: Found) -> Section:
    measures = {model.name: model.measures for model in found.models}
    chart = {
        model: {MEASURE_TITLES[name]: each.numbers for name, each in values.items()}
        for model, values in measures.items()
    }
    return Section(
        "Metrics",
        tables=(metrics_table(measures, caption(found)),),
        figures={
            "metrics": metric_chart_figure(chart),
            "error_curves": error_curves_figure({model.name: model.histories for model in found.models}),
        },
    )


@style()
def metric_chart_figure(scores: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """Several metrics side by side, a group of bars for each and in it a bar per model: mean, low, high."""
    table = pd.DataFrame(
        [(model, metric, *each) for model, values in scores.items() for metric, each in values.items()],
        columns=["model", "metric", "mean", "low", "high"],
    )
    tones = colours(list(scores))
    figure = Figure(figsize=(float(np.clip(0.28 * len(table) + 2, 7, 15)), 3.9), layout="constrained")
    panel = figure.subplots()
    looks = {"width": 0.84, "gap": 0.1, "saturation": 1, "errorbar": None, "legend": False}
    sns.barplot(table, x="metric", y="mean", hue="model", palette=tones, **looks, ax=panel)
    places = [bar.get_x() + bar.get_width() / 2 for bars in panel.containers for bar in bars]
    panel.vlines(places, table["low"], table["high"], color=INK, linewidth=0.9)
    panel.set(ylim=(0, 1), xlabel="", ylabel="")
    panel.tick_params(axis="x", labelcolor=INK)
    panel.grid(visible=False, axis="x")
    drawing.key(figure, {model: SQUARE | {"color": tone} for model, tone in tones.items()})
    return figure


def metrics_table(models: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's accuracy, top-5 accuracy where all have it, macro precision, macro recall and macro-F1."""
    names = [name for name in MEASURE_TITLES if all(name in values for values in models.values())]
    cells = [
        (model, *(score_interval(values[name]) for name in names), str(values["accuracy"].n))
        for model, values in models.items()
    ]
    header = ("Model", *(MEASURE_TITLES[name] for name in names), "n")
    return Table("metrics", caption, model_frame(models, names), header, tuple(cells))
