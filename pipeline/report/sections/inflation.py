"""inflation: what choosing the epoch on the test images would have pretended."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.sections.calibration import over_replicates
from pipeline.report.table import Table, model_table
from pipeline.scoring.intervals import Interval


def section(found: Found) -> Section | None:
    """Of the models whose epochs were all scored on the test images; None where there are none."""
    lines = {model.name: scores for model in found.models if (scores := inflated(model))}
    if not lines:
        return None
    over = f"means with {found.basis}" if found.replicates > 1 else found.taken_over
    caption = (
        f"{found.tested}: {over}. Every other number of this report is of the epoch that validation chose;"
        " these say what each score would have been, had its epoch been looked for on the test images: too high by the"
        " inflation. Nothing is selected by it."
        + f" Intervals of the inflation are over {found.unit}s alone (Student t)."
        * (found.replicates > 1)
    )
    return Section("Inflation", tables=(inflation_table(lines, caption),))


def inflated(model: Model) -> dict[str, Interval]:
    """Each score as validation chose its epoch, as the test images had chosen it, and the gap; empty if not known."""
    every = [evaluation.inflation for evaluation in model.evaluations if evaluation.inflation]
    if len(every) < model.replicates:
        return {}
    values = {}
    for name in ("accuracy", "macro_f1"):
        values[name] = [evaluation.scores[name] for evaluation in model.evaluations]
        values[f"{name}_on_test"] = [each.chosen_on_test[name].score for each in every]
        values[f"{name}_gap"] = [each.gap[name] for each in every]
    return over_replicates(values) | (_over_images(model, values) if len(every) > 1 else {})


def _over_images(model: Model, values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Both scores with intervals over replicates and test images."""
    return {
        name: replace(model.scored[score], values=np.array(values[name])).interval
        for score in ("accuracy", "macro_f1")
        for name in (score, f"{score}_on_test")
    }


def inflation_table(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    titles = {"accuracy": "Accuracy", "accuracy_on_test": "chosen on test", "accuracy_gap": "Inflation"}
    titles |= {"macro_f1": "Macro-F1", "macro_f1_on_test": "chosen on test", "macro_f1_gap": "Inflation"}
    return model_table("inflation", titles, lines, caption)
