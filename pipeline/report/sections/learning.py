"""learning: scores against the number of training images."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pipeline.report.drawing import STYLE, colours
from pipeline.report.results import Model
from pipeline.scoring import metrics
from pipeline.scoring.curves import Curves, Point, curves


def learning_curves_figure(curves: Mapping[str, Sequence[tuple[int, float, float, float]]]) -> Figure:
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


def learning_curves(models: Sequence[Model]) -> Curves:
    """The models that differ in how many training images they saw; none where evaluations do not say how many.

    Those that were trained on the validation images too are no part of a curve: what they saw is another protocol.
    """
    points = {}
    for model in models:
        if not model.validated:
            continue
        first = model.evaluations[0]
        if (images := first.get("train_images")) is not None:
            scores = metrics.score_arrays(model.confusions)["macro_f1"]  # (R,)
            point = Point(model.name, images, scores, model.scores["macro_f1"])
            points[model.name] = (first["config"]["model"], point)
    return curves(points)
