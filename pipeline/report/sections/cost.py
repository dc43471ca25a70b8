"""cost: latency, and scores against parameters, multiply-accumulates and time."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.base.quantities import short
from pipeline.records.evaluation import Evaluation
from pipeline.records.latency import Timing
from pipeline.report.drawing import GHOST, INK, PAPER, SOFT, Look, Score, colours, style
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table, summary
from pipeline.report.words import counted, milliseconds

NAMED = 3  # pairs of circles that the caption names


def section(found: Found) -> Section:
    figures = {"trade_off": trade_off(found)}
    if not found.timed:
        return Section("Accuracy and cost", {"latency": "", "remarks": remarks(*places(found))}, figures=figures)
    table = latency_table({model.name: model.timings for model in found.models}, latency_caption(found))
    figures["latency"] = latency_figure({model.name: model.cpu_seconds for model in found.models})
    words = {"latency": latency_note(found), "remarks": remarks(*places(found))}
    return Section("Accuracy and cost", words, (table,), figures)


@style()
def latency_figure(seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Each model's CPU seconds over all test images as a bar, the mean of its rounds (R,), a dot for each.

    The mean's number stands behind the longest.
    """
    figure = Figure(figsize=(8.2, 0.36 * len(seconds) + 0.9), layout="constrained")
    panel = figure.subplots()
    for row, (values, tone) in enumerate(zip(seconds.values(), colours(list(seconds)).values(), strict=True)):
        mean, several = float(np.mean(values)), len(values) > 1
        panel.barh(row, mean, height=0.66, color=tone)
        if several:
            panel.plot(values, [row] * len(values), "o", markersize=4, mfc=PAPER, mec=INK, mew=0.9, clip_on=False)
        text = f"{'mean ' * several}{f'{mean:#.3g}'.rstrip('.')} s"
        panel.annotate(text, (max(values), row), (7, 0), textcoords="offset points", va="center", size=9, color=SOFT)
    panel.set(xlabel="CPU seconds over all test images", xlim=(0, 1.2 * max(map(max, seconds.values()))))
    panel.set_ylim(len(seconds) - 0.5, -0.5)
    panel.set_yticks(np.arange(len(seconds)), list(seconds))
    panel.tick_params(axis="y", labelcolor=INK)
    panel.spines["left"].set_visible(False)
    panel.grid(visible=False, axis="y")
    return figure


@style()
def trade_off_figure(
    across: Mapping[str, float], accuracy: Mapping[str, Score], parameters: Mapping[str, int], label: str
) -> Figure:
    """Accuracy with its 95% interval against what `across` costs, a circle for each model, its area the parameters.

    A line joins the models that no other beats in both. `across` and `parameters` are above 0; a logarithmic axis
    where the largest cost is more than five times the smallest. Of eight models or fewer the parameters are named.
    """
    tones, names = colours(list(across)), list(across)
    x, y = np.array([across[name] for name in names], float), np.array([accuracy[name][0] for name in names])
    area = 12 + 1100 * np.array([parameters[name] for name in names]) / max(parameters.values())  # square points
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
    _cost_axis(panel, x)
    panel.margins(y=0.14)
    panel.set(xlabel=label, ylabel="accuracy")
    texts = names if len(names) > 8 else [f"{name}, {short(parameters[name])}" for name in names]
    figure.draw_without_rendering()  # places are known only behind the layout
    dots = panel.transData.transform(np.column_stack([x, y])) * 72 / figure.dpi  # points
    places = label_places(dots, texts, np.sqrt(area / np.pi))
    for text, dot, (shift, side) in zip(texts, zip(x, y, strict=True), places, strict=True):
        look: Look = {"ha": side, "va": "center", "size": 9, "color": INK, "zorder": 5}
        panel.annotate(text, dot, tuple(shift), textcoords="offset points", **look)
    return figure


def _cost_axis(panel: Axes, x: npt.NDArray[np.float64]) -> None:
    """Room on both sides of the costs (M,), more where names are written; a logarithmic axis where they differ much."""
    if x.max() > 5 * x.min():
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlim(x.min() / 1.6, x.max() * 2.2)
    else:
        room = max(float(np.ptp(x)), 0.2 * x.max())
        panel.set_xlim(x.min() - 0.15 * room, x.max() + 0.3 * room)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


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
        beside = [("left", gap, 0.0), ("right", -gap, 0.0)]
        aslant = itertools.product((1.0, 1.7, 2.6, 3.6), (("left", 1), ("right", -1)), (1, -1))
        beside += [(side, 0.7 * gap * far * way, 0.8 * gap * far * up) for far, (side, way), up in aslant]
        least, placed = math.inf, taken[index]
        for side, dx, dy in beside:
            left = dots[index][0] + dx - (width[index] if side == "right" else 0)
            low = dots[index][1] + dy - 0.6 * size
            box = np.array([left, low, left + width[index], low + 1.2 * size])
            crossed = sum(_overlap(box, other) for place, other in enumerate(taken) if place != index)
            outside = 1e4 * (left < dots[:, 0].min() - 60)
            cost = crossed + outside + 2 * math.hypot(dx, dy) / gap
            if cost < least:
                least, placed, found[int(index)] = cost, box, (np.array([dx, dy]), side)
        taken.append(placed)
    return [found[index] for index in range(len(texts))]


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(np.clip(sides, 0, None)))


LATENCY_TITLES = {
    "cpu_ms_alone": "PyTorch, one alone",
    "cpu_ms_per_image": "PyTorch, in batches",
    "onnx_ms_alone": "ONNX Runtime, one alone",
    "onnx_ms_per_image": "ONNX Runtime, in batches",
}


def latency_table(timings: Mapping[str, Sequence[Timing]], caption: str) -> Table:
    """Each model's milliseconds of a forward pass for an image, from its rounds of measuring.

    Means with their standard deviation; empty where a round has none, and no column that all models leave empty.
    """
    times = {model: {name: measured(rounds, name) for name in LATENCY_TITLES} for model, rounds in timings.items()}
    names = [name for name in LATENCY_TITLES if any(len(each[name]) for each in times.values())]
    rows = [
        {"model": model}
        | {key: value for name in names for key, value in summary(name, each[name]).items()}
        | {"n": len(timings[model])}
        for model, each in times.items()
    ]
    cells = [
        (model, *(milliseconds(each[name]) for name in names), str(len(timings[model])))
        for model, each in times.items()
    ]
    header = ("Model", *(LATENCY_TITLES[name] for name in names), "n")
    return Table("latency", caption, pd.DataFrame(rows), header, tuple(cells))


def measured(rounds: Sequence[Timing], name: str) -> npt.NDArray[np.float64]:
    """One of the times, a value for each round; none where a round has none."""
    values = [getattr(each, name) for each in rounds]
    return np.empty(0) if None in values else np.array(values)


def latency_note(found: Found) -> str:
    """What the bars of the latency figure are."""
    first = found.first.timings
    timed = min(each.cpu_images or 0 for model in found.models for each in model.timings)
    return (
        f"Forward pass over the {found.images:,} test images of {found.title} on the CPU ({found.timed_on}), in"
        f" float32, {first[0].cpu_batch} at a time"
        + (f"; reckoned from {timed:,} of them" if timed < found.images else "")
        + (f". Bars: means over {found.first.timed_over}; dots: each." if len(first) > 1 else "; n = 1 replicate.")
    )


def latency_caption(found: Found) -> str:
    first = found.first.timings
    return (
        f"{found.title}: a forward pass on the CPU ({found.timed_on}), milliseconds for an image, in float32,"
        f" prepared: for one alone and in batches of {first[0].cpu_batch}; medians over images"
        + (f", means ± standard deviations over {found.first.timed_over}." if len(first) > 1 else ".")
        + agreement(found.evaluations)
    )


def agreement(evaluations: Sequence[Evaluation]) -> str:
    """Whether ONNX Runtime names the classes that PyTorch does; empty where it was not compared."""
    compared = [each for each in evaluations if each.cost.onnx_differing is not None]
    if not compared:
        return ""
    images = [each.images for each in compared]
    if differing := sum(each.cost.onnx_differing or 0 for each in compared):
        count = f"{differing:,} of {sum(images):,}"
        return f" ONNX Runtime named another class than PyTorch for {count} image{'s' * (sum(images) > 1)}."
    whose = (
        "every training" if len(compared) == len(evaluations) else f"the {counted(len(compared), 'training')} compared"
    )
    count = f"{images[0]:,} " if len({*images}) == 1 else ""
    return f" ONNX Runtime named the same class as PyTorch for all {count}test images of {whose}."


def trade_off(found: Found) -> Figure:
    """Accuracy against CPU time where it was measured, else against parameters."""
    across, accuracy = places(found)
    parameters = {model.name: model.first.cost.parameters for model in found.models}
    label = "CPU milliseconds for an image" if found.timed else "parameters"
    return trade_off_figure(across, accuracy, parameters, label)


def places(found: Found) -> tuple[dict[str, float], dict[str, Score]]:
    """What each model costs, and its accuracy with its interval."""
    parameters = {model.name: float(model.first.cost.parameters) for model in found.models}
    times = (
        {model.name: float(np.mean(model.cpu_milliseconds)) for model in found.models} if found.timed else parameters
    )
    return times, {model.name: model.scores["accuracy"].numbers for model in found.models}


def remarks(across: Mapping[str, float], accuracy: Mapping[str, Score]) -> str:
    """What the figure's line is, or that there is none, and which circles lie on each other; empty of one model."""
    names = list(across)
    x, y = np.array([across[name] for name in names], float), np.array([accuracy[name][0] for name in names])
    if len(names) < 2:
        return ""
    best = pareto(x, y)
    text = "Line: models that no other beats in both."
    if len(best) == 1:
        text = f"No line: {names[best[0]]} is best in both."
    pairs = [f"{names[a]} and {names[b]}" for a, b in itertools.combinations(range(len(names)), 2) if close(x, y, a, b)]
    if not pairs:
        return text
    rest = f" and {len(pairs) - NAMED} more" * (len(pairs) > NAMED)
    return f"{text} Circles that lie on each other: {'; '.join(pairs[:NAMED])}{rest}."


def close(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], a: int, b: int) -> bool:
    """Whether two models are nearer to each other than a fiftieth of the figure, in cost and in accuracy."""
    x = np.log(x) if x.max() > 5 * x.min() else x
    spans = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    return bool(abs(x[a] - x[b]) < spans[0] / 50 and abs(y[a] - y[b]) < spans[1] / 50)
