"""What explain shows of what networks look at, as records: reports/explanations.json.

A place is the column and row of a tile in reports/explanations.jpg.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.records.diary import read_output

Place = list[int]


@dataclass(frozen=True)
class Answer:
    """What one model says of an image."""

    model: str
    predicted: str
    probability: float | None  # undefined is None
    overlay: Place | None  # what speaks for it; None for a network that cannot be looked at


@dataclass(frozen=True)
class Shown:
    """An image that is shown."""

    image: int  # its row among the test images
    actual: str
    tile: Place | None  # None for one that may not be passed on


@dataclass(frozen=True)
class Asked(Shown):
    """An image that is shown with the answers of all models."""

    answers: list[Answer]


@dataclass(frozen=True)
class Mistake(Answer, Shown):
    """An image that is shown with the answer of one model."""


@dataclass(frozen=True)
class Method:
    """How a model was looked at."""

    model: str
    method: str
    side: int  # of the grid of what it looks at


@dataclass(frozen=True)
class Mistakes:
    """Where a model is surely wrong."""

    model: str
    images: list[Mistake]


@dataclass(frozen=True)
class Explanations:
    """All that is shown; `sheet` is how many columns and rows of tiles there are."""

    images: int  # of the test
    disagreements: int  # test images that models answer differently
    replicate: int
    shareable: bool  # whether the images may be passed on
    sheet: list[int]
    models: list[Method]
    disagree: list[Asked]
    mistakes: list[Mistakes]
    right: list[Asked]

    @classmethod
    def read(cls, path: Path) -> "Explanations":
        return read_output(cls, path, "explain")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))
