"""What evaluate finds of one training, as a record: reports/evaluations/<model>-<replicate>.json.

What has a default is missing in results of earlier versions.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.base.files import write_json
from pipeline.records.diary import Epoch, Machine, read_output
from pipeline.records.latency import Timing


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; what is undefined is None."""

    name: Annotated[str, Field(alias="class")]
    precision: float | None
    recall: float | None
    f1: float | None
    support: int  # test images
    predicted_as: list[int]  # (K,), how many of these were predicted as each class


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training and its network cost; what was not measured is None."""

    parameters: int
    flops: int  # of one image's forward pass
    weight_bytes: int
    cpu_ms_per_image: float | None = None  # this and the next five by earlier versions: stage latency measures now
    cpu_ms_alone: float | None = None
    onnx_ms_per_image: float | None = None
    onnx_ms_alone: float | None = None
    cpu_images: int | None = None
    cpu_batch: int | None = None
    cpu_threads: int | None = None  # of evaluate
    onnx_differing: int | None = None  # test images of which ONNX Runtime finds another class likeliest
    train_seconds: float
    epochs: int
    peak_memory_bytes: int | None = None  # this and the next two of training, as `Usage` has them
    processor_joules: float | None = None
    gpu_joules: float | None = None

    def measured(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Mistake:
    """A test image that was surely taken for another class."""

    actual: str
    predicted: str
    png: str  # in base64


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the evaluated weights come from."""

    key: str = ""  # the training's fingerprint
    commit: str
    started: str  # ISO 8601
    weights_sha256: str = ""


@dataclass(frozen=True)
class EpochScores:
    """What one epoch's weights score on the test images."""

    epoch: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Peak:
    """The highest score of all epochs."""

    epoch: int
    score: float


@dataclass(frozen=True)
class Inflation:
    """What scores would have been, had the epoch been chosen on the test images."""

    epochs: list[EpochScores]
    chosen_on_test: dict[str, Peak]  # by score
    gap: dict[str, float]  # of the peak above what was scored


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that a report says of one training."""

    model: str
    replicate: int
    classes: list[ClassScores]
    scores: dict[str, float]
    one_view: dict[str, float] | None = None  # scores of the first of several views
    calibration: dict[str, float | None] = dataclasses.field(default_factory=dict)
    images: int  # of the test
    inflation: Inflation | None = None
    mistakes: list[Mistake] = dataclasses.field(default_factory=list)  # none of images that may not be shown
    train_images: int | None = None
    selected: Epoch
    cost: Cost
    machine: Machine
    run: Origin
    config: dict[str, Any]  # what determined the training: dataset, augment, train, model
    overrides: dict[str, Any]  # what the model sets for itself
    initialisation: str
    logits_sha256: str = ""  # of data/logits/<model>-<replicate>.npy
    timed_on: str | None = None  # by earlier versions: the processor, where it is not that of the training

    @property
    def confusion(self) -> list[list[int]]:
        """How many images of a class (rows) were predicted as each (K, K)."""
        return [row.predicted_as for row in self.classes]

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        return read_output(cls, path, f"evaluate@{path.stem}")

    def timing(self) -> Timing:
        """What earlier versions measured on the CPU."""
        cost = self.cost
        return Timing(
            processor=self.timed_on or self.machine.processor,
            cpu_threads=cost.cpu_threads,
            cpu_batch=cost.cpu_batch,
            cpu_images=cost.cpu_images,
            cpu_ms_per_image=cost.cpu_ms_per_image,
            cpu_ms_alone=cost.cpu_ms_alone,
            onnx_ms_per_image=cost.onnx_ms_per_image,
            onnx_ms_alone=cost.onnx_ms_alone,
        )

    def write(self, path: Path) -> None:
        write_json(path, self.plain())

    def plain(self) -> dict[str, Any]:
        """The evaluation as JSON has it."""
        content = {**dataclasses.asdict(self), "cost": self.cost.measured()}
        content["classes"] = [{"class": row.pop("name"), **row} for row in content["classes"]]
        if self.timed_on is None:
            del content["timed_on"]
        if not self.mistakes:  # an empty list is more than `dvc plots` can take
            del content["mistakes"]
        return content
