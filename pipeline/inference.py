"""A network on images: which device, in float32, and what to say when memory runs out."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline import loader
from pipeline.stage import StageError


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        have = ", ".join(name for name in available if available[name])
        raise StageError(f"params.yaml: train.device: {device!r} is not to be had on this machine ({have}); try auto")
    return torch.device(device)


@torch.inference_mode()
def predict(
    network: nn.Module, images: loader.Images, size: int, device: torch.device, batch_size: int = 256
) -> Tensor:
    """Logits (N, K) in float32, on the CPU."""
    network.eval()
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # float32 also in a GPU's convolutions
    batches = loader.test_batches(images, size, batch_size, device)
    with precise:
        return torch.cat([network(batch).float() for batch, _ in batches]).cpu()


@contextlib.contextmanager
def memory_remedy(remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error into a StageError with the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError; a CPU's has no name
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        raise StageError(f"out of memory; {remedy}, and run again") from None
