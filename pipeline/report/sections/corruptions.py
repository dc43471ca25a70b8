"""corruptions: what models make of corrupted test images, and whether verdicts hold on them.

Shapes: R replicates, C corruptions, S severities, N test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.records.corruptions import Corrupted
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH, counted, few, score, score_interval, signed_interval
from pipeline.scoring import pairs
from pipeline.scoring.intervals import Interval, of_shares
from pipeline.scoring.metrics import Floats
from pipeline.scoring.pairs import Difference

FIELDS = ("value", "low", "high", "holm", "verdict")
VERDICTS = "Differences of accuracy with 95% intervals; verdicts are Holm-corrected over pairs, as in the first table."
UNTOLD = "Verdicts are not given where replicates have test images or splits of their own."


@dataclass(frozen=True)
class Tried:
    """A model on the test images as they are, and on corrupted ones."""

    model: str
    clean: npt.NDArray[Any]  # (R, N), what is right; (R, 1), the share of it, of folds
    right: npt.NDArray[np.bool_]  # (R, C, S, N)

    @property
    def accuracy(self) -> Floats:
        """Of each replicate, corruption and severity, (R, C, S)."""
        return self.right.mean(-1)

    @property
    def mean(self) -> Interval:
        """Accuracy over all corruptions and severities; an image counts as one, however often it was corrupted."""
        return of_shares(self.accuracy.mean((1, 2)), self.right.shape[-1])

    @property
    def errors(self) -> Floats:
        """Of each corruption, over severities and replicates, (C,)."""
        return 1 - self.accuracy.mean((0, 2))


@dataclass(frozen=True)
class Verdicts:
    """What is said of two models by accuracy, on test images as they are and on corrupted ones."""

    model: str
    other: str
    clean: Difference
    corrupted: Difference
    change: Difference  # of the second from the first

    @property
    def same(self) -> bool:
        return self.clean.verdict == self.corrupted.verdict

    @property
    def changed(self) -> str:
        """cnn vs vit (better as they are, worse corrupted: a change of -0.0123 [-0.0323, +0.0100], maybe none)"""
        verdicts = f"{self.clean.verdict} as they are, {self.corrupted.verdict} corrupted"
        change = signed_interval(self.change.value, self.change.low, self.change.high)
        maybe = ", maybe none" * (self.change.low <= 0 <= self.change.high)
        return f"{self.model} vs {self.other} ({verdicts}: a change of {change}{maybe})"


def section(found: Found) -> Section | None:
    """None where params.yaml does not ask for it."""
    if not found.corrupted:
        return None
    every = next(iter(found.corrupted.values()))[0]
    kinds = {each.corruption: each.kind for each in every.variants}
    severities = list(dict.fromkeys(each.severity for each in every.variants))
    rows = [tried(model, found.corrupted[model.name], (len(kinds), len(severities))) for model in found.models]
    verdicts = compared(found, rows)
    said = sentence(verdicts)
    tables = [summary_table(found, rows, list(kinds)), strengths_table(rows, list(kinds), severities)]
    if verdicts:
        tables.append(verdict_table(verdicts))
    return Section(
        "Corrupted images",
        {
            "sentence": said,
            "untold": "" if verdicts or len(rows) == 1 else UNTOLD,
            "by_corruption": by_corruption(kinds, rows),
            "by_severity": {
                str(severity): [float(row.accuracy[:, :, place].mean()) for row in rows]
                for place, severity in enumerate(severities)
            },
        },
        tables=tuple(tables),
        lines=(said,) if said else (),
        summary={"corruptions": [compact(row, rows[0]) for row in rows]},
        metrics={f"{row.model}/corrupted_accuracy": row.mean.mean for row in rows},
    )


def tried(model: Model, corrupted: Sequence[Corrupted], shape: tuple[int, int]) -> Tried:
    """A model's replicates that were asked; `shape` is the number of corruptions and of severities."""
    places = [[each.replicate for each in model.evaluations].index(each.replicate) for each in corrupted]
    right = np.array([each.right for each in corrupted])  # (R, V, N)
    right = right.reshape(len(corrupted), *shape, -1)
    if model.folds:  # `model.right` has all folds' images in one row
        clean = np.array([[model.evaluations[place].scores["accuracy"]] for place in places])
        return Tried(model.name, clean, right)
    return Tried(model.name, model.right[places], right)


# verdicts


def compared(found: Found, rows: Sequence[Tried]) -> list[Verdicts]:
    """Every pair; none where replicates have test images or splits of their own and not all of them were asked."""
    draws, whole = found.draws, len(rows[0].right) == found.replicates
    if found.first.folds or found.first.own_images is not None or (draws and not whole):
        return []
    clean = pairs.compare_shares({row.model: row.clean for row in rows}, draws=draws)
    corrupted = pairs.compare_shares({row.model: row.right.mean((1, 2)) for row in rows}, draws=draws)
    change = pairs.compare_shares({row.model: row.right.mean((1, 2)) - row.clean for row in rows}, draws=draws)
    return [Verdicts(*names, clean[names], corrupted[names], change[names]) for names in clean]


def sentence(verdicts: Sequence[Verdicts]) -> str:
    """Of 3 verdicts by accuracy, 2 are the same on corrupted images; not cnn vs vit (see `Verdicts.changed`)."""
    if not verdicts:
        return ""
    changed = [each.changed for each in verdicts if not each.same]
    if not changed:
        several = f"all {len(verdicts)} verdicts by accuracy are"
        every = several if len(verdicts) > 1 else "the verdict by accuracy is"
        return f"On corrupted test images {every} the same."
    kept = len(verdicts) - len(changed)
    named = "; ".join(few(changed))
    are = "is" if kept == 1 else "are"
    return f"On corrupted test images {kept} of {len(verdicts)} verdicts by accuracy {are} the same; not {named}."


# tables


def beside(row: Tried, reference: Tried) -> float:
    """Mean corruption error: errors beside the reference's, corruption by corruption; NaN where that has none."""
    if not reference.errors.all():
        return float("nan")
    return float((row.errors / reference.errors).mean())


def summary_table(found: Found, rows: Sequence[Tried], names: Sequence[str]) -> Table:
    """A line for each model."""
    header = ("Model", "As they are", "Corrupted", f"mCE beside {rows[0].model}", "Hardest")
    cells = [
        (
            row.model,
            score(float(row.clean.mean())),
            score_interval(row.mean),
            DASH if np.isnan(error := beside(row, rows[0])) else f"{error:.2f}",
            f"{in_words(names[int(row.errors.argmax())])} {1 - row.errors.max():.3f}",
        )
        for row in rows
    ]
    frame = pd.DataFrame([compact(row, rows[0]) for row in rows])
    return Table("corruptions", caption(found, rows), frame, header, tuple(cells))


def compact(row: Tried, reference: Tried) -> dict[str, object]:
    """What the CSV and metrics.json have of a model; undefined is None."""
    error = beside(row, reference)
    return {
        "model": row.model,
        "replicates": len(row.right),
        "accuracy": float(row.clean.mean()),
        **dict(zip(("corrupted", "corrupted_low", "corrupted_high"), row.mean.numbers, strict=True)),
        "mean_error": float(row.errors.mean()),
        "mce": None if np.isnan(error) else error,
    }


def caption(found: Found, rows: Sequence[Tried]) -> str:
    variants = rows[0].right.shape[1] * rows[0].right.shape[2]
    return (
        f"{found.tested}: accuracy on the images as they are and over {counted(variants, 'corruption')} of each"
        f" (Hendrycks and Dietterich 2019, strengths of CIFAR-10-C), n = {len(rows[0].right)}, 95% intervals in which"
        " an image counts once. mCE, mean corruption error: errors beside those of the first model, corruption by"
        " corruption. Nothing was trained on a corrupted image or chosen by one."
    )


def strengths_table(rows: Sequence[Tried], names: Sequence[str], severities: Sequence[int]) -> Table:
    """A line for each model, corruption and severity: mean accuracy."""
    lines = [
        {"model": row.model, "corruption": name, "severity": severity, "accuracy": float(row.accuracy[:, c, s].mean())}
        for row in rows
        for c, name in enumerate(names)
        for s, severity in enumerate(severities)
    ]
    cells = tuple(
        (str(each["model"]), str(each["corruption"]), str(each["severity"]), f"{each['accuracy']:.4f}")
        for each in lines
    )
    header = ("Model", "Corruption", "Severity", "Accuracy")
    return Table(
        "corruption_strengths", "Mean accuracy by corruption and severity.", pd.DataFrame(lines), header, cells
    )


def verdict_table(verdicts: Sequence[Verdicts]) -> Table:
    """A line for each pair: the difference of accuracy and the verdict, on both."""
    lines, cells = [], []
    for each in verdicts:
        both = {"clean": each.clean, "corrupted": each.corrupted}
        numbers = {f"{name}_{key}": getattr(found, key) for name, found in both.items() for key in FIELDS}
        lines.append({"model": each.model, "other": each.other, **numbers})
        texts = [
            text
            for found in both.values()
            for text in (signed_interval(found.value, found.low, found.high), found.verdict)
        ]
        cells.append((f"{each.model} vs {each.other}", *texts))
    header = ("Pair", "Difference as they are", "Verdict", "Difference corrupted", "Verdict corrupted")
    return Table("corruption_verdicts", VERDICTS, pd.DataFrame(lines), header, tuple(cells))


def by_corruption(kinds: Mapping[str, str], rows: Sequence[Tried]) -> list[tuple[str, str, list[float]]]:
    """Name, kind and each model's accuracy over severities and replicates."""
    means = [1 - row.errors for row in rows]
    return [(in_words(name), kind, [float(each[c]) for each in means]) for c, (name, kind) in enumerate(kinds.items())]


def in_words(name: str) -> str:
    """jpeg_compression -> JPEG compression"""
    return name.replace("_", " ").replace("jpeg", "JPEG")
