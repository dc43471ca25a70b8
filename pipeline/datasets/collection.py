"""What a data set is (About) and what is found of it at a source (Collection).

Legend: H height, W width, C channels (1 grey, 3 RGB), N images.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Download:
    """One file of an official source."""

    filename: str
    urls: tuple[str, ...]  # tried in this order
    sha256: str = ""
    md5: str = ""  # where no SHA-256 is published


@dataclass(frozen=True)
class About:
    """What is known of a data set before a file of it is seen."""

    title: str
    classes: tuple[str, ...]  # in label order; empty: the source's folders name them
    flip: bool  # whether a mirrored image keeps its class
    licence: str
    homepage: str
    published: Mapping[str, int] = field(default_factory=dict)  # split -> number of images
    shareable: bool = True  # whether pictures of its images may stand in a report that others read
    official: tuple[Download, ...] = ()
    reviews: tuple[Download, ...] = ()  # what people said of suspicious labels: see reviews.py
    request: str = ""  # where to ask for data that have no open download
    layouts: str = ""  # what a source may look like, for errors
    votes: bool = False  # whether a source may say how many people saw each class in an image
    subjects: bool = False  # whether a source says who is in an image
    attributes: tuple[str, ...] = ()  # what else a source may say of each image, such as age
    embedded: bool = False  # whether it ships inside a library: `read` takes no source
    images: str = ""  # how many of which kind and size, for docs/data.md
    origin: str = ""  # where they come from, for docs/data.md
    caveats: str = ""  # what one has to know before using a model that was trained on it
    copies: Mapping[str, str] = field(default_factory=dict)  # further caveats of a copy, by `Collection.copy`
    expressions: bool = False  # whether its labels are the expressions that people saw in faces


@dataclass(frozen=True)
class Image:
    """One image; its pixels are read when asked for, so that a data set never needs to fit into memory."""

    name: str
    label: str  # a class name
    split: str  # train, val, test, or empty where there is no official split
    pixels: Callable[[], np.ndarray]  # uint8 (H, W, C)
    subject: str = ""  # who is in it, where the source says so
    votes: tuple[int, ...] = ()  # how many people saw each class in it, where the source says so
    rank: int | None = None  # its place among the official images of its split and class, where the source tells
    attributes: tuple[str, ...] = ()  # the value of each of `About.attributes`, where the source says so


@dataclass(frozen=True)
class Collection:
    """The images of one source in canonical order."""

    classes: tuple[str, ...]
    images: list[Image]
    copy: str = ""  # how the pixels differ from the official ones, such as "JPEG copy"
    title: str = ""  # where the source names the data set


def ranked(images: Iterable[Image]) -> list[Image]:
    """Images in the order of the official files, each with its place among those of its split and class."""
    seen: Counter[tuple[str, str]] = Counter()
    placed = []
    for image in images:
        group = image.split, image.label
        placed.append(replace(image, rank=seen[group]))
        seen[group] += 1
    return placed


def in_order(images: Iterable[Image], classes: tuple[str, ...]) -> list[Image]:
    """Sort by split, class and name."""
    label = {name: index for index, name in enumerate(classes)}
    return sorted(images, key=lambda image: (_rank(image.split), label[image.label], image.name))


def by_content(images: Iterable[Image], classes: tuple[str, ...]) -> list[Image]:
    """Sort by split, class and pixels, and name each image by its place: `train/7/00042`.

    For data sets whose official files name no images. Every source that holds the same pixels under the same labels
    gives the same bytes, whatever order or names it keeps them in; images that tie are equal in every respect.
    """
    groups: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        groups.setdefault((image.split, image.label), []).append(image)
    ordered = []
    for split, label in sorted(groups, key=lambda group: (_rank(group[0]), classes.index(group[1]))):
        group = sorted(groups[split, label], key=lambda image: image.pixels().tobytes())
        ordered += [replace(image, name=f"{split}/{label}/{place:05d}") for place, image in enumerate(group)]
    return ordered


def variant(copy: str, found: Counter[str], published: Mapping[str, int], splits: tuple[str, ...] = SPLITS) -> str:
    """A phrase for captions that says how the images of `splits` differ from the official ones; empty if they do not.

    >>> variant("JPEG copy", Counter(train=50000, test=9000), {"train": 50000, "test": 10000})
    'JPEG copy, 59,000 of 60,000 images'
    """
    have = {split: found[split] for split in splits if found[split] or split in published}
    official = {split: published[split] for split in splits if split in published}
    count = ""
    if published and have != official:
        total, wanted = sum(have.values()), sum(official.values())
        count = f"{total:,} of {wanted:,} images"
        if total >= wanted:
            count = "other splits: " + ", ".join(f"{n:,} {split}" for split, n in have.items())
    return ", ".join(part for part in (copy, count) if part)


def _rank(split: str) -> int:
    return SPLITS.index(split) if split else 0
