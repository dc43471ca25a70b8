"""What fetch leaves in data/raw.

Shapes: N images, K classes.
"""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.errors import StageError
from pipeline.base.garbage import uncollected
from pipeline.records import attributes
from pipeline.records.attributes import Columns

COLUMNS = ("name", "label", "split", "height", "width", "channels", "offset", "subject", "rank")


@dataclass(frozen=True)
class Raw:
    """What fetch left in data/raw; pixels stay on disk."""

    info: dict[str, Any]
    names: list[str]
    splits: np.ndarray  # (N,) train, val, test or empty
    labels: np.ndarray  # int64 (N,)
    shapes: np.ndarray  # int64 (N, 3): H, W, C
    offsets: np.ndarray  # int64 (N,)
    pixels: np.ndarray  # uint8, all images one after another
    subjects: np.ndarray  # (N,) who is in the image, or empty
    ranks: np.ndarray  # int64 (N,), places among the official images of a split and class; -1 where it is not told
    votes: np.ndarray | None = None  # uint8 (N, K) how many people saw each class in it
    attributes: Columns = field(default_factory=dict)  # (N,) each

    @classmethod
    def open(cls, folder: Path) -> "Raw":
        try:
            info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
            with uncollected(), (folder / "index.csv").open(encoding="utf-8", newline="") as file:
                head, *lines = csv.reader(file)
            pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise StageError(f"{error.filename}: not found; run the stage fetch first (dvc repro fetch)") from None
        label, voted = {name: number for number, name in enumerate(info["classes"])}, folder / "votes.csv"
        table = folder / attributes.TABLE
        index = dict(zip(head, zip(*lines, strict=True), strict=True))
        return cls(
            info=info,
            names=list(index["name"]),
            splits=np.array(index["split"]),
            labels=np.array([label[name] for name in index["label"]], dtype=np.int64),
            shapes=np.array([index[side] for side in ("height", "width", "channels")], dtype=np.int64).T,
            offsets=np.array(index["offset"], dtype=np.int64),
            pixels=pixels,
            subjects=np.array(index["subject"]),
            ranks=np.array([int(rank or -1) for rank in index["rank"]], dtype=np.int64),
            votes=np.loadtxt(voted, np.uint8, delimiter=",", ndmin=2) if voted.exists() else None,
            attributes=attributes.read(table, index["name"]) if table.exists() else {},
        )

    @property
    def classes(self) -> list[str]:
        return self.info["classes"]

    def image(self, row: int) -> np.ndarray:
        """uint8 (H, W, C)"""
        start = self.offsets[row]
        return self.pixels[start : start + self.shapes[row].prod()].reshape(self.shapes[row])
