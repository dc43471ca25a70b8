"""calibration: whether probabilities can be believed, and what a model gets right of what it is surest of."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.report import drawing
from pipeline.report.drawing import DASHED, GHOST, SOFT, SQUARE, THIN, colours, style
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table, model_table
from pipeline.scoring import calibration, intervals
from pipeline.scoring.intervals import Interval

Answers = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]  # (N,) each: confidence, whether it was right


def section(found: Found) -> Section:
    scores = {model.name: calibration_scores(model) for model in found.models}
    runs = {model.name: answers(model) for model in found.models}
    bins = {name: [calibration.reliability(*run) for run in each] for name, each in runs.items()}
    coverage = np.arange(1, 101) / 100
    kept = {
        name: np.array([calibration.selective_accuracy(*run, coverage) for run in each]) for name, each in runs.items()
    }
    return Section(
        "Calibration",
        tables=(calibration_table(scores, caption(found, scores)),),
        figures={
            "reliability": reliability_figure(bins),
            "selective_prediction": selective_prediction_figure(coverage, kept),
        },
        metrics={
            f"{model}/{name}": interval.mean
            for model, values in scores.items()
            for name, interval in values.items()
            if name != "accuracy" and not math.isnan(interval.mean)
        },
    )


@style()
def reliability_figure(bins: Mapping[str, Sequence[tuple[npt.NDArray[np.float64], ...]]]) -> Figure:
    """Accuracy against confidence, a panel per model: replicates thin, all of them together bold, shares as bars below.

    `bins` has confidence, accuracy and share (bins,) of each replicate; the diagonal is perfect calibration. A point of
    few images, an uncertain one, is small.
    """
    figure, panels = drawing.by_model(list(bins), "confidence", "accuracy")
    for (model, panel), tone in zip(panels.items(), colours(list(bins)).values(), strict=True):
        runs = np.array(bins[model])  # (R, 3, bins)
        share = runs[:, 2].mean(0)
        panel.bar((np.arange(len(share)) + 0.5) / len(share), share, width=0.86 / len(share), color=GHOST, zorder=1)
        panel.axline((0, 0), slope=1, color=SOFT, linewidth=1, linestyle=DASHED, zorder=1.5)
        for sure, accuracy, _ in runs if len(runs) > 1 else ():
            panel.plot(sure[~np.isnan(sure)], accuracy[~np.isnan(sure)], color=tone, **THIN)
        found = share > 0
        x, y = np.nansum(runs[:, :2] * runs[:, 2:], 0)[:, found] / runs[:, 2].sum(0)[found]
        panel.plot(x, y, color=tone, linewidth=1.4)
        panel.scatter(x, y, s=8 + 60 * share[found], color=tone, linewidth=0, zorder=3)
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1))
    bold: drawing.Look = {"marker": "o", "markersize": 4.5, "linewidth": 1.4}
    looks = {"all replicates": bold, "replicate": THIN} if len(runs) > 1 else {"the model": bold}
    looks["perfectly calibrated"] = {"linewidth": 1, "linestyle": DASHED}
    drawing.key(figure, looks | {"share of the images": SQUARE | {"color": GHOST}})
    return figure


@style()
def selective_prediction_figure(
    coverage: npt.NDArray[np.float64], curves: Mapping[str, npt.NDArray[np.float64]]
) -> Figure:
    """Accuracy on the images that a model is surest of, against their share: a panel per model, the others in grey.

    `coverage` is (C,), curves are (R, C): replicates thin, their mean bold.
    """
    x, y = "coverage", "accuracy"
    table = drawing.stacked({m: [pd.DataFrame({x: coverage, y: run}) for run in runs] for m, runs in curves.items()})
    figure, panels = drawing.by_model(list(curves), x, y)
    drawing.compare(panels, table, x, y)
    for panel in panels.values():
        panel.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        panel.xaxis.set_major_formatter(PercentFormatter(1))
    low = table[y][table[x] >= 0.05].min()
    if not math.isnan(low):
        panel.set_ylim(max(0.0, low - 0.04 * max(1 - low, 0.02)), 1 + 0.02 * (1 - low))
    return figure


def calibration_table(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's calibration error, overconfidence and accuracies over coverage, by these names in `lines`."""
    titles = {
        "calibration_error": "ECE",
        "overconfidence": "Confidence − accuracy",
        "accuracy": "Accuracy",
        "selective_accuracy": "Accuracy at 80% coverage",
        "calibration_error_scaled": "ECE, scaled",
        "log_loss": "Log loss",
        "log_loss_scaled": "Log loss, scaled",
        "temperature": "Temperature",
    }
    titles = {name: title for name, title in titles.items() if all(name in values for values in lines.values())}
    return model_table("calibration", titles, lines, caption)


def calibration_scores(model: Model) -> dict[str, Interval]:
    """How far a model's probabilities can be believed; intervals over replicates where there are several."""
    runs = answers(model)
    values = {
        "calibration_error": [calibration.calibration_error(*run) for run in runs],
        "overconfidence": list(model.confidence.mean(1) - model.right.mean(1)),
        "accuracy": list(model.right.mean(1)),
        "selective_accuracy": [float(calibration.selective_accuracy(*run)) for run in runs],
    }
    fitted = [evaluation.calibration for evaluation in model.evaluations]
    for name in ("temperature", "calibration_error_scaled", "log_loss", "log_loss_scaled"):
        if all(name in each for each in fitted):  # evaluations of earlier versions have none
            known = [each[name] for each in fitted]
            values[name] = [math.nan if each is None else each for each in known]
    found = over_replicates(values)
    return found | of_accuracies(model, values) if model.runs > 1 else found


def of_accuracies(model: Model, values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Accuracy, and that of what the model is surest of, with intervals over replicates and test images."""
    surest = intervals.of_shares(values["selective_accuracy"], model.tested * calibration.COVERAGE)
    return {"accuracy": model.scores["accuracy"], "selective_accuracy": surest}


def answers(model: Model) -> list[Answers]:
    """Of each replicate."""
    return list(zip(model.confidence, model.right, strict=True))


def caption(found: Found, scores: Mapping[str, Mapping[str, Interval]]) -> str:
    text = (
        f"{found.tested}: {found.taken_over}. ECE: expected calibration error, {calibration.BINS} bins of equal width"
        " (Guo et al. 2017); 0 is perfect. Confidence: mean probability of the predicted class; more of it than"
        f" accuracy is overconfidence. Accuracy at {calibration.COVERAGE:.0%} coverage: of the images that the model is"
        " surest of."
    )
    if found.first.runs > 1:
        text += " Intervals of accuracies are over test images too."
    if all("temperature" in each for each in scores.values()):
        text += " Scaled: with the logits divided by the temperature that has the least log loss on validation images."
    return text


LIMITS = {  # of what is not from 0 to 1
    "overconfidence": {"lowest": -1.0},
    "temperature": {"highest": math.inf},
    "log_loss": {"highest": math.inf},
    "log_loss_scaled": {"highest": math.inf},
}


def over_replicates(values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Means with intervals over replicates, where there are several, clipped to what a value can be."""
    return {
        name: intervals.over_replicates(found, **LIMITS.get(name, {}))
        if len(found) > 1
        else Interval(float(found[0]), math.nan, math.nan, 1, "test images")
        for name, found in values.items()
    }
