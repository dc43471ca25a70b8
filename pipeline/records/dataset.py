"""What split says of the images, as a record: reports/data.json.

What has a default is missing in results of earlier versions.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.places import REPORT
from pipeline.records.attributes import Attribute
from pipeline.records.diary import read_output

Split = Literal["train", "val", "test"]
SPLITS: dict[Split, str] = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class ClassImages:
    """How many images of a class each split has."""

    name: Annotated[str, Field(alias="class")]
    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Folds:
    """How images were put into folds."""

    folds: int
    by: str  # image or subject


@dataclass(frozen=True)
class Digests:
    """SHA-256 of the packed images."""

    fit: str  # training and validation
    test: str


@dataclass(frozen=True)
class ReplicateImages:
    """The images of a replicate; those of one `split` have the same."""

    replicate: int
    split: int
    train: int
    val: int
    test: int
    digests: Digests


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The images that were trained and tested on; of folds and of several splits, those of the first."""

    dataset: str
    title: str
    variant: str  # empty for the official data set
    licence: str
    homepage: str
    caveats: str
    expressions: bool  # whether classes are expressions of faces
    published: dict[Split, int | None]  # images
    found: dict[Split, int]  # images, before validation images are split off and training images thinned
    imbalance: float
    minority: list[str]
    digests: Digests
    classes: list[ClassImages]
    shareable: bool = False  # whether images may be passed on
    flip: bool = True  # whether a mirrored image keeps its class
    cross_validation: Folds | None = None
    vary: Literal["none", "validation", "split"] = "none"  # what replicates have of their own, beside folds
    replicates: list[ReplicateImages] = dataclasses.field(default_factory=list)  # empty where all have the same images
    attributes: list[Attribute] = dataclasses.field(default_factory=list)  # of test images that replicates share

    @classmethod
    def read(cls, path: Path = REPORT) -> "Dataset":
        return read_output(cls, path, "split")

    @property
    def names(self) -> list[str]:
        """The classes."""
        return [each.name for each in self.classes]

    @property
    def splits(self) -> int:
        """How many different ones replicates have; folds are not counted."""
        return len({each.split for each in self.replicates}) if self.vary != "none" else 1

    @property
    def test_digests(self) -> list[str]:
        """SHA-256 of the test images, of each replicate that has its own."""
        return [each.digests.test for each in self.replicates] or [self.digests.test]

    def images(self, split: Split) -> list[int]:
        """Of each class."""
        return [getattr(each, split) for each in self.classes]
