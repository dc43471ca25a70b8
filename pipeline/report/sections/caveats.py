"""caveats: what the results do not say."""

import numpy as np

from pipeline.report.found import Found, Model
from pipeline.report.section import Section


def section(found: Found) -> Section:
    starts: dict[str, list[str]] = {}
    for model in found.models:
        starts.setdefault(model.first.initialisation, []).append(model.name)
    several = {model.name: (model.views, first_alone(model)) for model in found.models if model.views > 1}
    return Section("Caveats", {"starts": starts, "several_views": several})


def first_alone(model: Model) -> float | None:
    """The accuracy of the first of several views, where evaluations have it."""
    known = [evaluation.one_view["accuracy"] for evaluation in model.evaluations if evaluation.one_view]
    return float(np.mean(known)) if known else None
