"""caveats: what the results do not say."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.report.found import Found, Model
from pipeline.report.section import Section

RISE = 0.005  # of macro-F1 within a tenth of the epochs: from there on a training is said to have stopped early


def section(found: Found) -> Section:
    starts: dict[str, list[str]] = {}
    for model in found.models:
        starts.setdefault(model.first.initialisation, []).append(model.name)
    several = {model.name: (model.views, first_alone(model)) for model in found.models if model.views > 1}
    rising = [model.name for model in found.models if still_rising([each["val_macro_f1"] for each in model.histories])]
    return Section("Caveats", {"starts": starts, "several_views": several, "rising": rising, "least": RISE})


def still_rising(scores: Sequence[pd.Series]) -> bool:
    """Whether in every training the validation macro-F1 (epochs,) of the last tenth is above that of the tenth before.

    By RISE or more, in the mean of either; of fewer epochs than ten that is not asked.
    """
    tenths = [
        (each.iloc[-2 * part : -part].mean(), each.iloc[-part:].mean()) for each in scores if (part := len(each) // 10)
    ]
    return bool(tenths) and all(last - before >= RISE for before, last in tenths)


def first_alone(model: Model) -> float | None:
    """The accuracy of the first of several views, where evaluations have it."""
    known = [evaluation.one_view["accuracy"] for evaluation in model.evaluations if evaluation.one_view]
    return float(np.mean(known)) if known else None
