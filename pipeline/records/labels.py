"""What is known against labels, as a record: reports/labels.json."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_json
from pipeline.records.diary import read_output

MAJORITY = 3  # of five annotators


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


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """What annotators said of labels of test images; `untold` is why nothing, where something is published."""

    source: str  # empty where nobody was asked about this data set
    untold: str
    reviewed: list[Reviewed]

    @property
    def refuted(self) -> int:
        """How many labels of test images are refuted."""
        return sum(each.refuted for each in self.reviewed)

    @classmethod
    def read(cls, path: Path) -> "LabelCheck":
        return read_output(cls, path, "labels")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))
