"""inflation: what choosing the epoch on the test images would have pretended."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import table
from pipeline.report.captions import tested
from pipeline.report.results import Model
from pipeline.report.sections.calibration import over_replicates, taken_over
from pipeline.report.table import Table, _bare_table
from pipeline.scoring.intervals import Interval


def inflation_rows(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's score as validation chose its epoch, as the test images had chosen it, and the gap."""
    titles = {"accuracy": "Accuracy", "accuracy_on_test": "chosen on test", "accuracy_gap": "Inflation"}
    titles |= {"macro_f1": "Macro-F1", "macro_f1_on_test": "chosen on test", "macro_f1_gap": "Inflation"}
    return _bare_table("inflation", titles, lines, caption)


def inflation_table(models: Sequence[Model], data: Mapping[str, Any]) -> table.Table | None:
    """Of the models whose epochs were all scored on the test images; None where there are none."""
    lines = {}
    for model in models:
        every = [evaluation["inflation"] for evaluation in model.evaluations if evaluation.get("inflation")]
        if len(every) < len(model.evaluations):
            continue
        values = {}
        for name in ("accuracy", "macro_f1"):
            values[name] = [evaluation["scores"][name] for evaluation in model.evaluations]
            values[f"{name}_on_test"] = [each["chosen_on_test"][name]["score"] for each in every]
            values[f"{name}_gap"] = [each["gap"][name] for each in every]
        lines[model.name] = over_replicates(values)
    if not lines:
        return None
    caption = (
        f"{tested(models, data)}: {taken_over(models)}. Every other number of this report is of the epoch that"
        " validation chose; these say what each score would have been, had its epoch been looked for on the test"
        " images: too high by the inflation. Nothing is selected by it."
    )
    return inflation_rows(lines, caption)
