"""What speaks against labels, as a record: reports/labels.json.

A place is the column and row of a tile in reports/labels.jpg.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.records.diary import read_output

MAJORITY = 3  # of five annotators
Place = list[int]


@dataclass(frozen=True)
class Reviewed:
    """A test image on whose label five annotators were asked: how many chose which class."""

    image: str
    label: str
    guess: str  # the class that they could choose instead
    for_label: int
    for_guess: int
    for_both: int
    for_neither: int

    @property
    def refuted(self) -> bool:
        """Whether fewer than three chose the label."""
        return self.for_label < MAJORITY

    @property
    def corrected(self) -> str:
        """The guessed class if three or more chose it, else the label."""
        return self.guess if self.for_guess >= MAJORITY else self.label


@dataclass(frozen=True)
class Reviews:
    """What annotators said of labels of test images; `untold` is why nothing, where something is published."""

    source: str  # empty where nobody was asked about this data set
    untold: str
    images: list[Reviewed]

    @property
    def refuted(self) -> int:
        """How many labels are refuted."""
        return sum(each.refuted for each in self.images)


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong, as the trained models see it."""

    image: str
    label: str
    probability: float  # of the label
    likeliest: str
    highest: float  # the probability of that one
    tile: Place | None  # None for one that may not be passed on


@dataclass(frozen=True)
class Suspects:
    """What confident learning suspects; `shown` are the most suspicious ones."""

    looked_at: int  # images, all of which the trainings that were asked had not seen
    trainings: int
    agreed: float  # share of the images whose label is the likeliest class
    suspected: int
    shown: list[Suspect]
    sheet: list[int]  # columns and rows of tiles


@dataclass(frozen=True)
class LabelCheck:
    """All that speaks against labels; none is changed by it."""

    reviews: Reviews
    suspects: Suspects | None  # None where every image was trained on

    @classmethod
    def read(cls, path: Path) -> "LabelCheck":
        return read_output(cls, path, "labels")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))
