"""What models score on other data sets, as a table and a heat map."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.report import drawing, words
from pipeline.report.table import Table
from pipeline.scoring import metrics

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # model -> data set -> what trained/cross.py scored


def table(results: Results) -> Table:
    """A row for each model, a column for each data set: accuracy, and macro-F1 behind it."""
    rows = [
        {"model": name, "dataset": key, **{score: found[score] for score in (*metrics.SCORES, "images")}}
        for name, of_model in results.items()
        for key, found in of_model.items()
    ]
    cells = tuple(
        (
            name,
            next(iter(of_model.values()))["trained_on"],
            *(f"{words.score(each['accuracy'])} ({words.score(each['macro_f1'])})" for each in of_model.values()),
        )
        for name, of_model in results.items()
    )
    first = next(iter(results.values()))
    counts = ", ".join(f"{key} {found['images']:,}" for key, found in first.items())
    caption = f"Accuracy (macro-F1) on the test images of each data set: {counts}. One training of each model."
    return Table("cross", caption, pd.DataFrame(rows), ("Model", "Trained on", *first), cells)


@drawing.style({"axes.grid": False, "axes.linewidth": 0})
def heat_map(results: Results) -> Figure:
    """The accuracy of each model on each data set, as coloured cells with their values."""
    models, sets = list(results), list(next(iter(results.values())))
    accuracies = np.array([[results[name][key]["accuracy"] for key in sets] for name in models])
    figure = Figure(figsize=(2.5 + 1.2 * len(sets), 1.2 + 0.5 * len(models)), layout="constrained")
    panel = figure.subplots()
    drawing.heatmap(panel, accuracies, annot=True, fmt=".1%", linewidths=1, linecolor=drawing.PAPER)
    panel.set_xticks(np.arange(len(sets)) + 0.5, sets)
    panel.set_yticks(np.arange(len(models)) + 0.5, models)
    panel.set_xlabel("tested on")
    figure.colorbar(panel.collections[0], ax=panel, format=PercentFormatter(1)).outline.set_visible(False)
    return figure
