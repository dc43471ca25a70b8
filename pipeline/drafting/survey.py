"""What images of one's own are, looked at before a study of them is written.

Legend: K classes.
"""

import math
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import datasets
from pipeline.base.errors import StageError, shown
from pipeline.datasets.collection import SPLITS, Collection, Image
from pipeline.datasets.decode import decoded
from pipeline.datasets.partition import assign
from pipeline.datasets.raw import Raw

SAMPLE = 240  # images from all over the data set, which are opened first
SECONDS = 60.0  # after which no further one is: sizes are known by then, and the stage fetch opens all
MANY = 2_000  # images, which take so long that a word of it is due
MOST_CLASSES = 12  # that are listed by name
VAL_FRACTION, TEST_FRACTION = 0.2, 0.2  # what is drawn where there is no official split


@dataclass(frozen=True)
class Survey:
    """The images of a source: how many of which class, how large, which colours."""

    classes: tuple[str, ...]
    given: dict[str, int]  # images of each split that the folders name; under an empty name those of none
    counts: dict[str, tuple[int, ...]]  # split, drawn ones too -> images of each class, (K,)
    sides: tuple[int, int, int]  # pixels of the shorter side: the smallest, the median, the largest
    aspect: float  # the longer side of the median image, as a multiple of the shorter
    grey: bool
    opened: int  # images that sizes and colours are known of

    @property
    def images(self) -> int:
        return sum(self.given.values())

    @property
    def training(self) -> int:
        """The images that are left to train on."""
        return sum(self.counts["train"])

    @property
    def imbalance(self) -> float:
        """The training images of the largest class, as a multiple of the smallest's."""
        return max(self.counts["train"]) / min(self.counts["train"])

    @property
    def drawn(self) -> tuple[str, ...]:
        """The splits that the folders do not name, which are drawn from the rest."""
        return tuple(split for split in SPLITS[1:] if not self.given.get(split))

    @property
    def words(self) -> str:
        """450 images of 3 classes, 120 to 219 pixels (median 166), colour"""
        low, middle, high = self.sides
        pixels = f"{low:,}" if low == high else f"{low:,} to {high:,} (median {middle:,})"
        return f"{self.images:,} images of {len(self.classes)} classes, {pixels} pixels, {self.colour}"

    @property
    def in_detail(self) -> str:
        """cats 150, ships 150: 192 to train, 48 to validate, 60 to test, where an accuracy of 0.90 is known to ±0.08"""
        train, val, test = (sum(self.counts[split]) for split in SPLITS)
        of_class = [sum(self.counts[split][label] for split in SPLITS) for label in range(len(self.classes))]
        classes = [f"{shown(name, 40)} {n:,}" for name, n in zip(self.classes, of_class, strict=True)]
        if len(classes) > MOST_CLASSES:
            classes = [f"{min(of_class):,} to {max(of_class):,} of a class"]
        parts = f"{train:,} to train, {val:,} to validate, {test:,} to test"
        known = 1.96 * math.sqrt(0.9 * 0.1 / test)
        return f"{', '.join(classes)}: {parts}, where an accuracy of 0.90 is known to ±{known:.2f}"

    @property
    def colour(self) -> str:
        return "grey" if self.grey else "colour"


def look(source: str, val_fraction: float = VAL_FRACTION, test_fraction: float = TEST_FRACTION) -> Survey:
    """Survey a folder, archive or URL as the stages fetch and split would take it, which draw these fractions.

    Raises StageError where they would refuse it: no classes, images that cannot be read, a class that is too small.
    """
    with datasets.opened("folder", source) as (_, collection):
        counts = _parts(collection, val_fraction, test_fraction)
        shapes = _shapes(collection.images)
    short, long = zip(*(sorted(shape[:2]) for shape in shapes), strict=True)
    return Survey(
        classes=collection.classes,
        given={split: n for split in ("", *SPLITS) if (n := sum(each.split == split for each in collection.images))},
        counts=counts,
        sides=(min(short), round(statistics.median(short)), max(short)),
        aspect=statistics.median(b / a for a, b in zip(short, long, strict=True)),
        grey=all(channels == 1 for *_, channels in shapes),
        opened=len(shapes),
    )


def _shapes(images: Sequence[Image]) -> list[tuple[int, ...]]:
    """(H, W, C) of the images, each decoded as a whole; of a part from all over the data set where they take long."""
    if len(images) > MANY:
        print(f"versus: opening {len(images):,} images, to see that each can be read", file=sys.stderr)
    step = max(1, len(images) // SAMPLE)
    spread = [image for first in range(step) for image in images[first::step]]
    shapes = [pixels.shape for _, pixels in decoded(spread, SECONDS)]
    if len(shapes) < len(images):
        looked_at = f"{len(shapes):,} of {len(images):,} images were opened in {SECONDS:.0f} s"
        print(f"versus: {looked_at}; whether the others can be read is found out next", file=sys.stderr)
    return shapes


def _parts(collection: Collection, val_fraction: float, test_fraction: float) -> dict[str, tuple[int, ...]]:
    """Images of each class, by split, as they will be drawn; raises StageError where a class is too small for it."""
    place = {name: label for label, name in enumerate(collection.classes)}
    n, nothing = len(collection.images), np.zeros(0, np.int64)
    raw = Raw(
        info={"classes": list(collection.classes)},
        names=[image.name for image in collection.images],
        splits=np.array([image.split for image in collection.images]),
        labels=np.array([place[image.label] for image in collection.images]),
        shapes=np.zeros((n, 3), np.int64),
        offsets=nothing,
        pixels=nothing,
        subjects=np.full(n, ""),
        ranks=nothing,
    )
    try:
        rows = assign(raw, val_fraction, test_fraction, seed=0)
    except StageError as error:  # there is no params.yaml yet whose fractions could be changed
        raise StageError(
            re.sub(", leave the class out, or change .*", ", or leave the class out", str(error))
        ) from None
    counts = {split: np.bincount(raw.labels[each], minlength=len(place)) for split, each in rows.items()}
    return {split: tuple(of_class.tolist()) for split, of_class in counts.items()}
