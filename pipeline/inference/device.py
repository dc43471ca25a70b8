"""Which device computes, made deterministic, and what to say when its memory runs out."""

import contextlib
import ctypes
import os
import platform
import re
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.base.errors import PassingError, StageError


def capabilities() -> dict[str, Any]:
    """What the processor can do, and its name; empty where torch does not say."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def processor() -> str:
    return f"{capabilities().get('cpu_name') or platform.machine()}, {os.cpu_count()} cores"


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        have = ", ".join(name for name in available if available[name])
        raise StageError(f"params.yaml: train.device: {device!r} is not to be had on this machine ({have}); try auto")
    return torch.device(device)


def be_deterministic() -> None:
    """Have a GPU give the same bits again; an operation that cannot raises. On a CPU nothing changes."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Have glibc keep what it frees: a network's activations are then not paged in anew at every step.

    On two CPU cores a step of a network with few channels takes a fifth less time; other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # malloc.h
        for option, value in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (mmap_max, 0)):
            mallopt(option, value)


@contextlib.contextmanager
def memory_remedy(remedy: str) -> Iterator[None]:
    """Turn an error for want of memory, or of an operation without a fixed order, into a StageError with the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # only CUDA's allocator has a class of its own
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|allocate memory|alloc_failed", str(error), re.IGNORECASE
        ):
            if "deterministic" in str(error) and torch.are_deterministic_algorithms_enabled():
                operation = str(error).split(" does not have")[0][:60]
                raise StageError(
                    f"params.yaml: train.deterministic: {operation} does not give the same bits twice on this device;"
                    " choose false, or train.device: cpu"
                ) from None
            raise
        raise PassingError(f"out of memory; {remedy}, and run again") from None
