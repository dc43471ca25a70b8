"""learning: scores against the number of training images."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from pipeline.report.drawing import colours, style
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.words import signed_interval
from pipeline.scoring import metrics
from pipeline.scoring.curves import Curves, Point, curves, leads
from pipeline.scoring.pairs import Pair, between


def section(found: Found) -> Section | None:
    """None where no network was trained on several numbers of images."""
    learnt = learning_curves(found.models)
    if not learnt:
        return None
    points = {name: [(point.images, *point.score.numbers) for point in curve] for name, curve in learnt.items()}
    texts = tuple(sentences(learnt, found.pairs))
    return Section(
        "Data size",
        {"families": list(learnt), "texts": texts},
        figures={"learning_curves": learning_curves_figure(points)},
        lines=texts,
    )


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
        if model.validated and model.first.train_images is not None:
            scores = metrics.score_arrays(model.confusions)["macro_f1"]  # (R,)
            point = Point(model.name, model.first.train_images, scores, model.scores["macro_f1"])
            points[model.name] = (model.first.config["model"], point)
    return curves(points)


def sentences(found: Curves, pairs: Sequence[Pair]) -> list[str]:
    """Of every two curves over the same numbers of images: where, if anywhere, the lower catches the higher one."""
    return [
        _sentence(found, pairs, first, second)
        for first, second in itertools.combinations(found, 2)
        if [point.images for point in found[first]] == [point.images for point in found[second]]
    ]


def _sentence(found: Curves, pairs: Sequence[Pair], first: str, second: str) -> str:
    ahead, behind = (first, second) if leads(found[first][0], found[second][0]) else (second, first)
    both = zip(found[ahead], found[behind], strict=True)
    gaps = [between(pairs, one.model, other.model).differences["macro_f1"] for one, other in both]
    images = [f"{point.images:,}" for point in found[ahead]]
    caught = next((index for index in range(len(gaps)) if all(each.value <= 0 for each in gaps[index:])), None)
    if caught is None:
        text = f"{behind} does not catch {ahead} up to {images[-1]} training images"
    elif caught:
        text = f"{behind} catches {ahead} between {images[caught - 1]} and {images[caught]} training images"
    else:
        text = f"{behind} and {ahead} are level from {images[0]} training images on"
    at = [f"{signed_interval(gaps[k].value, gaps[k].low, gaps[k].high)} at {images[k]}" for k in (0, -1)]
    return f"{text}: {ahead}'s mean macro-F1 minus {behind}'s is {' and '.join(at)}."
