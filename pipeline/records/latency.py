"""How long a forward pass takes on the CPU, as records: reports/latency.json, and one round of measuring.

What has a default was not measured, or not by earlier versions.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.records.diary import read_output


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One round of measuring one model: milliseconds for an image; what was not measured is None."""

    processor: str
    cpu_threads: int | None
    cpu_batch: int | None
    cpu_images: int | None  # how many the batches went over
    cpu_ms_per_image: float | None
    cpu_ms_alone: float | None
    onnx_ms_per_image: float | None = None
    onnx_ms_alone: float | None = None


@dataclass(frozen=True, kw_only=True)
class Times:
    """A model's milliseconds for an image, a value for each round: in batches and for one alone."""

    cpu_images: int
    cpu_ms_per_image: list[float]
    cpu_ms_alone: list[float]
    onnx_ms_per_image: list[float] | None = None
    onnx_ms_alone: list[float] | None = None


@dataclass(frozen=True)
class Latency:
    """What the stage latency measured of all models in turn."""

    processor: str
    threads: int
    batch: int
    models: dict[str, Times]

    @classmethod
    def read(cls, path: Path) -> "Latency":
        return read_output(cls, path, "latency")

    def rounds(self, model: str) -> tuple[Timing, ...]:
        times = self.models[model]
        return tuple(
            Timing(
                processor=self.processor,
                cpu_threads=self.threads,
                cpu_batch=self.batch,
                cpu_images=times.cpu_images,
                cpu_ms_per_image=times.cpu_ms_per_image[number],
                cpu_ms_alone=times.cpu_ms_alone[number],
                onnx_ms_per_image=times.onnx_ms_per_image[number] if times.onnx_ms_per_image else None,
                onnx_ms_alone=times.onnx_ms_alone[number] if times.onnx_ms_alone else None,
            )
            for number in range(len(times.cpu_ms_per_image))
        )
