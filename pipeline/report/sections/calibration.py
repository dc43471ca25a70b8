"""calibration: whether probabilities can be believed, and what a model gets right of what it is surest of."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from pipeline.report import table
from pipeline.report.captions import basis, tested
from pipeline.report.drawing import GHOST, SOFT, STYLE, _small_multiples, colours
from pipeline.report.results import Model
from pipeline.report.table import Table, _bare_table
from pipeline.scoring import calibration, intervals
from pipeline.scoring.intervals import Interval


def reliability_figure(bins: Mapping[str, Sequence[tuple[npt.NDArray[np.float64], ...]]]) -> Figure:
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


def selective_prediction_figure(
    coverage: npt.NDArray[np.float64], curves: Mapping[str, npt.NDArray[np.float64]]
) -> Figure:
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


def calibration_rows(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
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
    return _bare_table("calibration", titles, lines, caption)


def calibration_scores(model: Model) -> dict[str, intervals.Interval]:
    """How far a model's probabilities can be believed; intervals over replicates where there are several."""
    right = model.predicted == model.actual  # (R, N)
    runs = list(zip(model.confidence, right, strict=True))
    values = {
        "calibration_error": [calibration.calibration_error(*run) for run in runs],
        "overconfidence": list(model.confidence.mean(1) - right.mean(1)),
        "accuracy": list(right.mean(1)),
        "selective_accuracy": [float(calibration.selective_accuracy(*run)) for run in runs],
    }
    fitted = [evaluation.get("calibration", {}) for evaluation in model.evaluations]
    for name in ("temperature", "calibration_error_scaled", "log_loss", "log_loss_scaled"):
        if all(name in each for each in fitted):  # evaluations of earlier versions have none
            values[name] = [math.nan if each[name] is None else each[name] for each in fitted]
    return over_replicates(values)


def calibration_table(
    models: Sequence[Model], scores: Mapping[str, Mapping[str, intervals.Interval]], data: Mapping[str, Any]
) -> table.Table:
    caption = (
        f"{tested(models, data)}: {taken_over(models)}. ECE: expected calibration error,"
        f" {calibration.BINS} bins of equal width (Guo et al. 2017); 0 is perfect. Confidence: mean probability of the"
        f" predicted class; more of it than accuracy is overconfidence. Accuracy at {calibration.COVERAGE:.0%}"
        " coverage: of the images that the model is surest of."
    )
    if all("temperature" in each for each in scores.values()):
        caption += (
            " Scaled: with the logits divided by the temperature that has the least log loss on validation images."
        )
    return calibration_rows(scores, caption)


def taken_over(models: Sequence[Model]) -> str:
    """What the caption of a table says whose numbers have intervals over replicates alone."""
    return f"means with {basis(models)}" if models[0].runs > 1 else f"{models[0].n}, without intervals"


LIMITS = {  # of what is not from 0 to 1
    "overconfidence": {"lowest": -1.0},
    "temperature": {"highest": math.inf},
    "log_loss": {"highest": math.inf},
    "log_loss_scaled": {"highest": math.inf},
}


def over_replicates(values: Mapping[str, Sequence[float]]) -> dict[str, intervals.Interval]:
    """Means with intervals over replicates, where there are several, clipped to what a value can be."""
    return {
        name: intervals.over_replicates(found, **LIMITS.get(name, {}))
        if len(found) > 1
        else intervals.Interval(float(found[0]), math.nan, math.nan, 1, "test images")
        for name, found in values.items()
    }
