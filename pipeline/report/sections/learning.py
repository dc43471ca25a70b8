"""learning: scores against the number of training images."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from pipeline.report.drawing import colours, style
from pipeline.report.results import Model
from pipeline.scoring import metrics
from pipeline.scoring.curves import Curves, Point, curves


@style()
def learning_curves_figure(curves: Mapping[str, Sequence[tuple[int, float, float, float]]]) -> Figure:
    """Test macro-F1 against the number of training images, a line per family: images, mean, low, high of each point."""
    figure = Figure(figsize=(7.4, 4.3), layout="constrained")
    panel = figure.subplots()
    for (name, points), tone in zip(curves.items(), colours(list(curves)).values(), strict=True):
        images, means, lows, highs = np.array(points, dtype=float).T
        panel.fill_between(images, lows, highs, color=tone, alpha=0.15, linewidth=0)
        panel.vlines(images, lows, highs, color=tone, linewidth=1.2)
        sns.lineplot(
            x=images, y=means, color=tone, linewidth=2, marker="o", mec=tone, label=name, legend=False, ax=panel
        )
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
