"""What a training says of itself in models/<model>-<replicate>/run.json: its epochs, when, where and how long."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import StageError
from pipeline.base.files import write_json

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One row of a history; scores are fractions, the validation's in float32, None where it was trained on too."""

    epoch: int  # from 1
    lr: float  # of its last step
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_macro_f1: float | None


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a training ran on."""

    device: str  # a GPU's name, or the kind of device
    processor: str
    threads: int
    precision: str
    python: str
    torch: str
    timm: str


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a training took of its machine beside time; what was not measured is None."""

    peak_memory_bytes: int | None = None  # of tensors on the GPU, or of the process where it trained on the CPU
    processor_joules: float | None = None  # of all that ran on the processor meanwhile
    gpu_joules: float | None = None


@dataclasses.dataclass(frozen=True)
class Diary:
    """One training: when, where and how long."""

    key: str  # its fingerprint
    mlflow_run: str
    commit: str
    started: str  # ISO 8601
    machine: Machine
    seconds: float  # of training and validation
    train_images: int
    images_per_second: float
    selected: Epoch
    usage: Usage = Usage()  # nothing in diaries of earlier versions

    @classmethod
    def read(cls, folder: Path) -> "Diary":
        """The diary of the training that left `folder`."""
        remedy = f"run `dvc checkout --force {folder}` or `dvc repro train@{folder.name}`"
        return read_record(cls, folder / "run.json", remedy)

    def measured(self) -> dict[str, float | None]:
        """The scores of the selected epoch, the training's speed and what it took, as metrics are called in MLflow."""
        chosen = {f"selected_{key}": value for key, value in dataclasses.asdict(self.selected).items() if key != "lr"}
        speed = {"train_seconds": self.seconds, "images_per_second": self.images_per_second}
        return {**chosen, **speed, **dataclasses.asdict(self.usage)}

    def write(self, folder: Path) -> None:
        write_json(folder / "run.json", dataclasses.asdict(self))


def read_record(kind: type[Record], path: Path, remedy: str) -> Record:
    """A dataclass and those within it from JSON; raises StageError with the remedy where something does not fit."""
    try:
        return from_plain(kind, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:  # pydantic's and JSON's
        raise StageError(f"{path}: {_reason(error)}; {remedy}") from None


def read_output(kind: type[Record], path: Path, stage: str) -> Record:
    """What a stage left, as a record; the remedy is to run the stage, anew where it left something else."""
    if not path.exists():
        raise missing(path, stage)
    return read_record(kind, path, f"run `dvc repro -f {stage}` in the study's folder")


def missing(path: Path, stage: str) -> StageError:
    return StageError(f"{path}: not found; run `dvc repro {stage}` in the study's folder")


def from_plain(kind: type[Record], content: Any) -> Record:
    """A dataclass and those within it from mappings; keys that it does not have are left out."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(content)


def _reason(error: ValueError) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return f"not readable as JSON ({error})"
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    return (
        f"no {place} in it, perhaps of an earlier version" if first["type"] == "missing" else f"{place}: {first['msg']}"
    )
