"""Scores of subgroups of the test images, from committed predictions and the images' attributes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.base.errors import StageError
from pipeline.base.places import REPORT
from pipeline.base.quantities import enumerated
from pipeline.records.attributes import Attribute, of_columns, read
from pipeline.report.found import Found
from pipeline.report.table import Table
from pipeline.report.words import counted, score_interval, signed_interval
from pipeline.scoring.effective import luck_of
from pipeline.scoring.intervals import of_shares
from pipeline.scoring.subgroups import FEWEST, Gap, Members, clearest_gap, pairs_of

Attributes = Mapping[str, Mapping[str, Members]]  # attribute -> value -> which test images
NamedGap = tuple[str, str, Gap]  # model, attribute and its clearest gap


def attributes(found: Found, path: Path | None = None) -> Attributes:
    """What a table says of the test images (records/attributes.py), or what the study knows of them without one.

    Raises StageError where nothing is known, or of other images.
    """
    refuse_own_images(found)
    if path is not None:
        return grouped(of_columns(read(path, names(found))))
    if not (known := found.data.attributes):
        raise StageError(
            "subgroups: nothing is known of these test images; give a CSV file, or name one in params.yaml"
            " (dataset.attributes) and run `dvc repro`"
        )
    if {len(each.images) for each in known} != {found.images}:
        raise StageError(f"{REPORT}: attributes of other images than were tested on; run `dvc repro`")
    return grouped(known)


def refuse_own_images(found: Found) -> None:
    """Raise StageError where replicates have test images of their own, so that none are all scored on."""
    if found.first.own_images is not None:
        raise StageError("subgroups: each replicate has test images of its own (split.vary); none that all share")
    if found.first.folds:
        raise StageError("subgroups: each fold has test images of its own (split.folds); none that all share")


def names(found: Found) -> Sequence[str]:
    """Of the test images; raises StageError where predictions do not have them."""
    if not found.first.images:
        raise StageError(
            "subgroups: reports/predictions are of an earlier version, which named no images; run `dvc repro`"
        )
    return found.first.images


def grouped(known: Iterable[Attribute]) -> Attributes:
    """Which images have which value."""
    columns = {each.name: (each.levels, np.array(each.column)) for each in known}
    return {name: {value: column == value for value in levels} for name, (levels, column) in columns.items()}


def tables(found: Found, known: Attributes, gaps: Sequence[NamedGap]) -> tuple[Table, ...]:
    """Each model's accuracy on each subgroup, and its clearest gap by each attribute, if it has any."""
    scores = scores_table(found, known)
    return (scores, gaps_table(found, known, gaps)) if gaps else (scores,)


def scores_table(found: Found, known: Attributes) -> Table:
    rows = [
        (model.name, name, value, members, of_shares(right.mean(1), members.sum(), luck_of(right, model.shared)))
        for model in found.models
        for name, groups in known.items()
        for value, members in groups.items()
        for right in [model.right[:, members]]
    ]
    frame = pd.DataFrame(
        {"model": model, "attribute": name, "value": value, "images": int(members.sum())}
        | dict(zip(("accuracy", "accuracy_low", "accuracy_high"), interval.numbers, strict=True))
        | {"n": interval.n}
        for model, name, value, members, interval in rows
    )
    cells = tuple(
        (model, name, value, f"{members.sum():,}", score_interval(interval))
        for model, name, value, members, interval in rows
    )
    caption = f"{found.tested}: accuracy on the images of each subgroup, {found.basis}.{_unknown(known)}"
    return Table("subgroups", caption, frame, ("Model", "Attribute", "Value", "Images", "Accuracy"), cells)


def _unknown(known: Attributes) -> str:
    """Of how many images an attribute is not known, in a sentence."""
    counts = {name: int((~np.any(list(groups.values()), axis=0)).sum()) for name, groups in known.items() if groups}
    told = [f"{name} of {counted(count, 'image')}" for name, count in counts.items() if count]
    return f" Not known: {enumerated(told)}." if told else ""


def gaps(found: Found, known: Attributes) -> list[NamedGap]:
    """The clearest of each model by each attribute."""
    count = asked(known)
    every = [
        (model.name, name, clearest_gap(model.right, groups, model.shared, count))
        for model in found.models
        for name, groups in known.items()
    ]
    return [(model, name, gap) for model, name, gap in every if gap]


def asked(known: Attributes) -> int:
    """How many gaps a model has, for which its clearest ones are corrected."""
    return sum(len(pairs_of(groups)) for groups in known.values())


def gaps_table(found: Found, known: Attributes, gaps: Sequence[NamedGap]) -> Table:
    count = asked(known)
    frame = pd.DataFrame(
        [{"model": model, "attribute": name, **vars(gap), "gaps": count} for model, name, gap in gaps],
        columns=["model", "attribute", "above", "below", "mean", "low", "high", "gaps"],
    )
    cells = tuple(
        (
            model,
            name,
            f"{gap.above} over {gap.below}",
            signed_interval(gap.mean, gap.low, gap.high),
            "holds" if gap.holds else "not distinguishable from none",
        )
        for model, name, gap in gaps
    )
    over = "seeds and test images" if found.replicates > 1 else "test images, seeds not varied"
    caption = (
        f"Gap in accuracy between two values of an attribute, of {FEWEST} images or more each: of those that hold the"
        f" one with the highest lower end, else the largest; with its 95% interval over {over}, corrected for the"
        f" {counted(count, 'gap')} of a model (Bonferroni)."
    )
    return Table("gaps", caption, frame, ("Model", "Attribute", "Clearest gap", "Accuracy", "Verdict"), cells)
