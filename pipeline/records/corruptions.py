"""What models make of corrupted test images, as records below reports/corruptions.

Shapes: N test images, V variants: each corruption in each severity.
"""

import base64
import dataclasses
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.base.files import write_json
from pipeline.records.diary import read_output

FOLDER = Path("reports/corruptions")
PANEL = FOLDER / "panel.json"


@dataclass(frozen=True)
class Panel:
    """What params.yaml asks for, which source leaves: the replicates of each model, none where nothing is corrupted."""

    replicates: list[int]
    severities: list[int]
    seed: int

    @classmethod
    def read(cls, path: Path = PANEL) -> "Panel":
        return read_output(cls, path, "source")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))


@dataclass(frozen=True)
class Variant:
    """The test images by one corruption in one severity: the share that is right, and which images these are."""

    corruption: str
    kind: str
    severity: int
    accuracy: float
    right: str  # a bit for each image, deflated, in base64

    @classmethod
    def of(cls, corruption: str, kind: str, severity: int, right: npt.NDArray[np.bool_]) -> "Variant":
        bits = base64.b64encode(zlib.compress(np.packbits(right).tobytes(), 9)).decode()
        return cls(corruption, kind, severity, float(right.mean()), bits)


@dataclass(frozen=True)
class Corrupted:
    """What one trained model makes of every variant."""

    model: str
    replicate: int
    weights_sha256: str
    seed: int
    images: int
    variants: list[Variant]

    @classmethod
    def read(cls, path: Path) -> "Corrupted":
        return read_output(cls, path, f"corrupt@{path.stem}")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which images are right, (V, N)."""
        return np.array([_bits(each.right, self.images) for each in self.variants])

    @property
    def names(self) -> list[tuple[str, int]]:
        """Corruption and severity of each variant."""
        return [(each.corruption, each.severity) for each in self.variants]


def corrupted_path(training: str) -> Path:
    """Where the record of a training lies, such as cnn-0."""
    return FOLDER / f"{training}.json"


def _bits(text: str, count: int) -> npt.NDArray[np.bool_]:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)
