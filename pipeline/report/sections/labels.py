"""labels: which labels are suspected or refuted; what models score without the refuted ones and on corrected ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.records.labels import Reviews
from pipeline.report.found import Found, Model
from pipeline.report.pictures import lossy
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import SCORE_TITLES, score_interval
from pipeline.scoring.intervals import Interval, intervals
from pipeline.scoring.metrics import confusion_matrix

LABELS = {
    "": "as given",
    "_unrefuted": "without the refuted",
    "_corrected": "corrected",
}  # which; behind a score's name
SHOWN = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Judged:
    """The test images by their labels: which are refuted, and what annotators would have called each (N,)."""

    refuted: npt.NDArray[np.bool_]
    corrected: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """A model's scores on labels as they are given, without the refuted ones and on corrected ones."""

    model: str
    errors: npt.NDArray[np.int64]  # (R,)
    of_labels: npt.NDArray[np.int64]  # (R,), how many of them are on images whose label is refuted
    scores: dict[str, Interval]  # by a score's name and what stands behind it


def section(found: Found) -> Section | None:
    """None where labels has not run."""
    if found.labels is None:
        return None
    reviews, images = found.labels.reviews, found.first.images
    words = {
        "reviews": reviews if reviews.untold or (reviews.images and images) else None,
        "suspects": found.labels.suspects,
        "sheet": lossy(found.labels_sheet),
        "changed": sum(each.corrected != each.label for each in reviews.images),
        "order": "",
    }
    if not (reviews.images and images):
        return Section("Labels", words)
    judged = judge(found.first, reviews, found.data.names)
    rows = [scored(model, judged, len(found.data.names)) for model in found.models]
    return Section("Labels", {**words, "order": order(rows)}, tables=(labels_table(rows, caption(found)),))


def judge(model: Model, reviews: Reviews, classes: Sequence[str]) -> Judged:
    """What annotators said, of the test images in their order."""
    row = {name: place for place, name in enumerate(model.images)}
    refuted, corrected = np.zeros(len(model.actual), dtype=bool), model.actual.copy()
    for each in reviews.images:
        refuted[row[each.image]] = each.refuted
        corrected[row[each.image]] = classes.index(each.corrected)
    return Judged(refuted, corrected)


def scored(model: Model, judged: Judged, classes: int) -> Scored:
    every = np.ones(len(model.actual), dtype=bool)
    which = {"": (model.actual, every), "_unrefuted": (model.actual, ~judged.refuted)}
    which["_corrected"] = (judged.corrected, every)
    scores: dict[str, Interval] = {}
    for suffix, (labels, kept) in which.items():
        counts = np.stack([confusion_matrix(labels[kept], guess[kept], classes) for guess in model.predicted])
        of_these = intervals(counts, model.shared)
        scores |= {name + suffix: of_these[name] for name in SHOWN}
    wrong = ~model.right  # (R, N)
    return Scored(model.name, wrong.sum(1), (wrong & judged.refuted).sum(1), scores)


def labels_table(rows: Sequence[Scored], caption: str) -> Table:
    """Errors, those of them that are the label's, and accuracy on each kind of labels; macro-F1 in the frame alone."""
    header = (
        "Model",
        "Errors",
        "on refuted labels",
        *(f"{SCORE_TITLES['accuracy']} {text}" for text in LABELS.values()),
    )
    return Table("labels", caption, pd.DataFrame(map(numbers, rows)), header, tuple(map(cells, rows)))


def numbers(row: Scored) -> dict[str, float | str]:
    scores = {
        f"{name}{end}": value
        for name, interval in row.scores.items()
        for end, value in zip(("", "_low", "_high"), interval.numbers, strict=True)
    }
    return {"model": row.model, "errors": row.errors.mean(), "errors_on_refuted": row.of_labels.mean(), **scores}


def cells(row: Scored) -> tuple[str, ...]:
    share = row.of_labels.sum() / max(1, row.errors.sum())
    return (
        row.model,
        mean(row.errors),
        f"{mean(row.of_labels)} ({share:.0%})",
        *(score_interval(row.scores["accuracy" + suffix]) for suffix in LABELS),
    )


def mean(counts: npt.NDArray[np.int64]) -> str:
    """72.3 of several replicates, 1,197 of one"""
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts.mean():,.1f}"


def caption(found: Found) -> str:
    alone = "95% intervals over test images (Clopper-Pearson)"
    over = f"means with {found.basis}" if found.first.runs > 1 else alone
    return (
        f"{found.tested}: {over}. Refuted: fewer than three of five annotators chose the label that the data set gives"
        " (Northcutt et al. 2021). Corrected: where three or more chose the other class that they were offered, that is"
        " the label. Only labels that confident learning had suspected were shown to annotators. Nothing is chosen by"
        " it: every other number of this report is of the labels as given."
    )


def order(rows: Sequence[Scored]) -> str:
    """Whether models would stand in another order on corrected labels; empty for one model."""
    if len(rows) == 1:
        return ""
    given, corrected = (
        sorted(rows, key=lambda row, suffix=suffix: -row.scores["accuracy" + suffix].mean)  # type: ignore[misc]
        for suffix in ("", "_corrected")
    )
    same = [row.model for row in given] == [row.model for row in corrected]
    return "the same order as on labels as given" if same else "another order than on labels as given"
