"""data: what split left, class by class, and what the doctor found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from pipeline.report import drawing, words
from pipeline.report.drawing import INK, SOFT, style
from pipeline.report.results import SPLITS, Model
from pipeline.report.words import enumerated

MAJORITY, MINORITY = "#5b88b0", "#e08e45"  # differ in lightness too


@style({"axes.grid": False})
def class_distribution_figure(
    classes: Sequence[str], splits: Mapping[str, Sequence[int]], minority: Sequence[str] = ()
) -> Figure:
    """Images per class, a panel for each split with its own scale; minority classes in a second colour.

    `splits` maps a split's name to its counts (K,). With more than 40 classes they are sorted by the first split's
    counts and go unnamed.
    """
    many = len(classes) > 40
    table = pd.DataFrame(splits).assign(tone=[MINORITY if name in minority else MAJORITY for name in classes])
    if many:
        table = table.sort_values(next(iter(splits)), ascending=False, kind="stable", ignore_index=True)
    figure = Figure(figsize=(10.4, 4.5 if many else 0.27 * len(classes) + 1.25), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    bars = {"y": table.index, "orient": "h", "hue": "tone", "palette": {tone: tone for tone in table["tone"]}}
    for panel, split in zip(panels, splits, strict=True):
        sns.barplot(table, x=split, **bars, width=1 if many else 0.74, saturation=1, lw=0, legend=False, ax=panel)
        panel.set(title=f"{split}: {table[split].sum():,} images", xlabel="", ylabel="")
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True) if many else NullLocator())
        for drawn in () if many else panel.containers:
            panel.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=9, color=SOFT)
        panel.margins(x=0 if many else 0.16)
    panels[0].set_yticks([] if many else table.index, [] if many else classes)
    panels[0].tick_params(axis="y", labelcolor=INK)
    square = {"marker": "s", "ls": "", "markersize": 9}
    if minority:
        drawing.key(
            figure, {"minority class": square | {"color": MINORITY}, "other class": square | {"color": MAJORITY}}
        )
    return figure


def split_counts(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per split: images as published and as found in the data set, and those used (None where there is no number)."""
    return [
        {
            "split": title,
            "published": data["published"].get(split) or None,
            "found": data["found"].get(split) or None,
            "used": sum(each[split] for each in data["classes"]),
        }
        for split, title in SPLITS.items()
    ]


def findings(checkup: Mapping[str, Any], models: Sequence[Model]) -> list[str]:
    """What the doctor found in the data, a sentence each, and what leaks from test to training do to the scores."""
    count = {key: f"{value:,}" for key, value in checkup.items() if isinstance(value, int)}
    pairs_of_splits = {"train_val": "training and validation", "train_test": "training and test"}
    pairs_of_splits["val_test"] = "validation and test"

    def lying(kind: str) -> str:
        found = [
            f"{count[f'{kind}_{key}']} in {name}" for key, name in pairs_of_splits.items() if checkup[f"{kind}_{key}"]
        ]
        return f", {enumerated(found)}" if found else ", none across splits"

    notes = []
    if checkup["duplicate_groups"]:
        notes.append(
            f"{count['duplicate_images']} of {count['images']} images have the pixels of another one:"
            f" {count['duplicate_groups']} groups{lying('equal')}."
        )
    else:
        notes.append(f"No two of the {count['images']} images have equal pixels.")
    if leaked := checkup["leaked_test_rows"]:
        rest = np.setdiff1d(np.arange(len(models[0].actual)), leaked)
        scores = [
            f"{model.name} {words.score(model.scores['accuracy'].mean)} with, "
            f"{words.score((model.predicted == model.actual)[:, rest].mean())} without"
            for model in models
        ]
        notes.append(
            f"{count['leaked_test_images']} test images occur in training or validation too. Accuracy with and without"
            f" them: {'; '.join(scores)}."
        )
    if checkup["conflicting_labels"]:
        notes.append(f"{count['conflicting_labels']} groups of equal images have more than one label.")
    if checkup["near_pairs"]:
        notes.append(
            f"{count['near_pairs']} further pairs of images are alike to a correlation of {checkup['near_correlation']}"
            f"{lying('near')}."
        )
    if checkup["blank_images"]:
        notes.append(f"{count['blank_images']} images are of one colour.")
    return notes
