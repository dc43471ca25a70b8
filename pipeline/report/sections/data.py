"""data: what split left, class by class, and what the doctor found."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from pipeline.base.quantities import enumerated
from pipeline.records.checkup import Checkup
from pipeline.records.dataset import SPLITS, Dataset
from pipeline.report import drawing
from pipeline.report.drawing import INK, SOFT, SQUARE, style
from pipeline.report.found import Found, Model
from pipeline.report.pictures import lossless
from pipeline.report.section import Section

MAJORITY, MINORITY = "#5b88b0", "#e08e45"  # differ in lightness too


def section(found: Found) -> Section:
    counts = {title: found.data.images(split) for split, title in SPLITS.items()}
    training = found.data.images("train")
    words = {
        "splits": split_counts(found.data),
        "ratio": max(training) / min(training),
        "equal": across(found.checkup, "equal"),
        "near": across(found.checkup, "near"),
        "without": {model.name: without(model, found.checkup.leaked_test_rows) for model in found.models},
        "pictures": "training images" if found.data.shareable else "test cards",
        "augmentation": lossless(found.augmentation),
    }
    drawn = class_distribution_figure(found.data.names, counts, found.data.minority)
    return Section("Data", words, figures={"class_distribution": drawn})


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
    panels = drawing.panels(figure, list(splits), len(splits), sharey=True)
    bars = {"y": table.index, "orient": "h", "hue": "tone", "palette": {tone: tone for tone in table["tone"]}}
    for panel, split in zip(panels, splits, strict=True):
        sns.barplot(table, x=split, **bars, width=1 if many else 0.74, saturation=1, lw=0, legend=False, ax=panel)
        panel.set(title=f"{split}: {table[split].sum():,} images", xlabel="", ylabel="")
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True) if many else NullLocator())
        bars_of_tones: Any = () if many else panel.containers
        for drawn in bars_of_tones:
            panel.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=9, color=SOFT)
        panel.margins(x=0 if many else 0.16)
    panels[0].set_yticks([] if many else table.index, [] if many else classes)
    panels[0].tick_params(axis="y", labelcolor=INK)
    tones = {"minority class": MINORITY, "other class": MAJORITY} if minority else {}
    drawing.key(figure, {label: SQUARE | {"color": tone} for label, tone in tones.items()})
    return figure


def split_counts(data: Dataset) -> list[dict[str, Any]]:
    """Per split: images as published and as found in the data set, and those used (None where there is no number)."""
    return [
        {
            "split": title,
            "published": data.published.get(split) or None,
            "found": data.found.get(split) or None,
            "used": sum(data.images(split)),
        }
        for split, title in SPLITS.items()
    ]


def across(checkup: Checkup, kind: Literal["equal", "near"]) -> str:
    """3 in training and test: where images lie that are alike, but in two splits; empty where there are none."""
    counts = {
        f"{title} and {other_title}": getattr(checkup, f"{kind}_{split}_{other}")
        for (split, title), (other, other_title) in itertools.combinations(SPLITS.items(), 2)
    }
    return enumerated([f"{count:,} in {splits}" for splits, count in counts.items() if count])


def without(model: Model, leaked: Sequence[int]) -> float:
    """The accuracy on the test images that are not among some: those of the first replicate, if each has its own."""
    rest = np.setdiff1d(np.arange(model.tested), leaked)
    right = model.right if model.own_images is None else model.right[:1]
    return float(right[:, rest].mean())
