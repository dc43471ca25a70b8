"""GPUs and cores of this machine, divided among the jobs that run at a time."""

import dataclasses
import os
from collections.abc import Sequence

from pipeline.base.errors import StageError


@dataclasses.dataclass(frozen=True)
class Slot:
    """What one job at a time has: GPUs by number, and cores."""

    gpus: tuple[str, ...]
    cores: tuple[int, ...]


def gpus() -> list[str]:
    """The GPUs that this process may use, by the numbers or names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def slots(workers: int | None, devices: int, gpus: Sequence[str], cores: Sequence[int]) -> list[Slot]:
    """GPUs and cores divided among `workers`, which None leaves to what there is.

    Those are as many as have `devices` GPUs each; without GPUs one for every two cores, or two on two or three: small
    networks leave a second core half idle. More workers than GPUs share them in turn.
    """
    if gpus and len(gpus) < devices:
        raise StageError(f"launch: train.devices is {devices}, and this machine has {len(gpus)} GPUs; lower it")
    groups = [tuple(gpus[start : start + devices]) for start in range(0, len(gpus) - devices + 1, devices)]
    alone = max(len(cores) // 2, min(len(cores), 2))
    count = workers or (min(len(groups), len(cores)) if gpus else max(1, alone // devices))
    if count > len(cores):
        raise StageError(f"launch: {count} workers on {len(cores)} cores; ask for --workers {len(cores)} or fewer")
    share = len(cores) // count
    return [
        Slot(groups[index % len(groups)] if gpus else (), tuple(cores[index * share : (index + 1) * share]))
        for index in range(count)
    ]
