"""Scores of subgroups of the test images, from committed predictions and a table of the images' attributes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.base.errors import StageError
from pipeline.base.quantities import enumerated
from pipeline.report.found import Found, Model
from pipeline.report.table import Table
from pipeline.report.words import counted, score_interval, signed_interval
from pipeline.scoring.intervals import of_shares
from pipeline.scoring.subgroups import FEWEST, Gap, Members, clearest_gap, pairs_of

IMAGE = "image"  # the column that names images
MOST = 20  # values of an attribute

Attributes = Mapping[str, Mapping[str, Members]]  # attribute -> value -> which test images


def attributes(path: Path, images: Sequence[str]) -> Attributes:
    """What a CSV file says of the test images, in a column `image` and one for each attribute; empty cells say nothing.

    Raises StageError where it does not fit the images, or an attribute has too many values to be told of.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StageError(f"{path}: not readable as CSV ({error})") from None
    if IMAGE not in table or len(table.columns) < 2:
        raise StageError(f"{path}: wanted a column {IMAGE} and one for each attribute, got {', '.join(table.columns)}")
    if (twice := table[IMAGE].duplicated()).any():
        raise StageError(f"{path}: names {table[IMAGE][twice].iloc[0]} twice; leave one line of each image")
    known = table.set_index(IMAGE).reindex(list(images))
    if known.isna().all(axis=None):
        raise StageError(f"{path}: names no test image; names are those that `versus mistakes` lists, as {images[0]}")
    return {name: _members(path, known[name]) for name in known.columns}


def _members(path: Path, column: pd.Series) -> dict[str, Members]:
    values = sorted(set(column.dropna()) - {""})
    if len(values) > MOST:
        raise StageError(f"{path}: {column.name} has {len(values)} values; group them to {MOST} or fewer")
    return {value: (column == value).to_numpy(dtype=bool) for value in values}


def tables(found: Found, known: Attributes) -> tuple[Table, Table]:
    """Each model's accuracy on each subgroup, and its clearest gap by each attribute."""
    return scores_table(found, known), gaps_table(found, known)


def of_the_study(found: Found) -> Sequence[str]:
    """The names of the test images that all models were scored on; raises StageError where there are none."""
    if found.first.own_images is not None:
        raise StageError("subgroups: each replicate has test images of its own (split.vary); none that all share")
    if found.first.folds:
        raise StageError("subgroups: each fold has test images of its own (split.folds); none that all share")
    if not found.first.images:
        raise StageError(
            "subgroups: reports/predictions are of an earlier version, which named no images; run `dvc repro`"
        )
    return found.first.images


def scores_table(found: Found, known: Attributes) -> Table:
    rows = [
        (model.name, name, value, members, of_shares(model.right[:, members].mean(1), members.sum(), model.shared))
        for model in found.models
        for name, groups in known.items()
        for value, members in groups.items()
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


def gaps(model: Model, known: Attributes) -> Iterator[tuple[str, Gap]]:
    """The clearest of each attribute."""
    asked = sum(len(pairs_of(groups)) for groups in known.values())
    for name, groups in known.items():
        if gap := clearest_gap(model.right, groups, model.shared, asked):
            yield name, gap


def gaps_table(found: Found, known: Attributes) -> Table:
    asked = sum(len(pairs_of(groups)) for groups in known.values())
    rows = [(model.name, name, gap) for model in found.models for name, gap in gaps(model, known)]
    frame = pd.DataFrame(
        [{"model": model, "attribute": name, **vars(gap), "gaps": asked} for model, name, gap in rows],
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
        for model, name, gap in rows
    )
    over = "seeds and test images" if found.replicates > 1 else "test images, seeds not varied"
    caption = (
        f"Gap in accuracy between two values of an attribute, of {FEWEST} images or more each: of those that hold the"
        f" one with the highest lower end, else the largest; with its 95% interval over {over}, corrected for the"
        f" {asked} gaps of a model (Bonferroni)."
    )
    return Table("gaps", caption, frame, ("Model", "Attribute", "Clearest gap", "Accuracy", "Verdict"), cells)
