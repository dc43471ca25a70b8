"""What the doctor found in the images, as a record: reports/doctor.json."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.records.diary import read_output


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """How many images are alike, within splits and across them."""

    images: int
    duplicate_images: int  # images with the pixels of another one
    duplicate_groups: int
    equal_train_val: int  # groups of equal images that lie in both splits
    equal_train_test: int
    equal_val_test: int
    conflicting_labels: int  # groups of equal images with more than one label
    near_pairs: int  # pairs that are alike to a correlation of `near_correlation`
    near_train_val: int
    near_train_test: int
    near_val_test: int
    near_correlation: float
    blank_images: int  # of one colour
    leaked_test_images: int  # that occur in training or validation too
    leaked_test_rows: list[int]

    @classmethod
    def read(cls, path: Path) -> "Checkup":
        return read_output(cls, path, "doctor")
