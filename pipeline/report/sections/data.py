"""data: what split left, class by class, and what the doctor found."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.report import words
from pipeline.report.drawing import INK, SOFT, STYLE
from pipeline.report.results import SPLITS, Model
from pipeline.report.words import enumerated

MAJORITY, MINORITY = "#5b88b0", "#e08e45"  # differ in lightness too


def class_distribution_figure(
    classes: Sequence[str], splits: Mapping[str, Sequence[int]], minority: Sequence[str] = ()
) -> Figure:
    """Images per class, a panel for each split with its own scale; minority classes in a second colour.

    `splits` maps a split's name to its counts (K,). With more than 40 classes they are sorted by the first split's
    counts and go unnamed.
    """
    counts = {name: np.asarray(values) for name, values in splits.items()}
    many = len(classes) > 40
    order = np.argsort(-next(iter(counts.values())), kind="stable") if many else np.arange(len(classes))
    tones = [MINORITY if classes[index] in minority else MAJORITY for index in order]
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        height = 4.5 if many else 0.27 * len(classes) + 1.25
        figure = Figure(figsize=(10.4, height), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
        for panel, (split, values) in zip(panels, counts.items(), strict=True):
            bars = panel.barh(np.arange(len(order)), values[order], height=1.0 if many else 0.74, color=tones)
            panel.set_title(f"{split}: {values.sum():,} images")
            panel.spines[["left", "bottom"]].set_visible(False)
            if many:
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            else:
                panel.bar_label(bars, [f"{value:,}" for value in values[order]], padding=3, fontsize=9, color=SOFT)
                panel.set_xticks([])
                panel.margins(x=0.16)
        panels[0].set_ylim(len(order) - 0.4, -0.6)
        panels[0].set_yticks([] if many else np.arange(len(order)), [] if many else [classes[index] for index in order])
        panels[0].tick_params(axis="y", labelcolor=INK)
        if minority:
            keys = [
                Line2D([], [], marker="s", ls="", markersize=9, color=MINORITY, label="minority class"),
                Line2D([], [], marker="s", ls="", markersize=9, color=MAJORITY, label="other class"),
            ]
            figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9.5, handletextpad=0.2)
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
