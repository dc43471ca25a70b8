"""What probes find in features, as a table."""

from collections.abc import Sequence

import pandas as pd

from pipeline.report.table import Table
from pipeline.report.words import score, score_interval
from pipeline.trained.frozen import Probed

HEADER = ("Model", "Features", "Probe", "Chosen", "Validation macro-F1", "Test macro-F1", "Test accuracy")
CAPTION = (
    "Features before training, networks frozen. Chosen by macro-F1 on validation images; test images were scored once."
    " 95% intervals: over test images, of few images a class over their draws."
)


def table(found: Sequence[Probed]) -> Table:
    """A line for each model and probe."""
    lines = [(each.model, each.features, probe) for each in found for probe in each.probes]
    frame = pd.DataFrame(
        {
            "model": model,
            "features": features,
            "probe": probe.kind,
            "chosen": probe.chosen,
            "val_macro_f1": probe.val_macro_f1,
            **{
                f"{name}{end}": value
                for name, interval in (("macro_f1", probe.macro_f1), ("accuracy", probe.accuracy))
                for end, value in zip(("", "_low", "_high"), interval.numbers, strict=True)
            },
            "n": probe.accuracy.n,
        }
        for model, features, probe in lines
    )
    cells = tuple(
        (
            model,
            str(features),
            probe.kind,
            probe.chosen,
            score(probe.val_macro_f1),
            score_interval(probe.macro_f1),
            score_interval(probe.accuracy),
        )
        for model, features, probe in lines
    )
    return Table("probes", CAPTION, frame, HEADER, cells)
