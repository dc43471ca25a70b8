"""metrics: accuracy, precision, recall and F1 side by side."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pipeline.report.drawing import INK, STYLE, colours
from pipeline.report.table import Table, _numbers
from pipeline.report.words import MEASURE_TITLES, score_interval
from pipeline.scoring.intervals import Interval


def metric_chart_figure(scores: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
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


def metrics_table(models: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's accuracy, top-5 accuracy where all have it, macro precision, macro recall and macro-F1."""
    names = [name for name in MEASURE_TITLES if all(name in values for values in models.values())]
    cells = [
        (model, *(score_interval(values[name]) for name in names), str(values["accuracy"].n))
        for model, values in models.items()
    ]
    header = ("Model", *(MEASURE_TITLES[name] for name in names), "n")
    return Table("metrics", caption, _numbers(models, names), header, tuple(cells))
