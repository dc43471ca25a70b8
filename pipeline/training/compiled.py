"""How a network is placed on its device, and compiled where `train.compile` asks for it."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from pipeline.base.errors import StageError
from pipeline.training import fused


def placed(network: nn.Module, device: torch.device, fast: bool) -> nn.Module:
    """The network on the device; if `fast`, its kernels in the order in which processors read images."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if fast else network


def compiled_by(mode: str, network: nn.Module) -> nn.Module | None:
    """The network, its parameters and state shared, with faster passes in training; None for mode none.

    fused has some layers computed by kernels of our own; other modes are torch's, compiled for each size of batch.
    """
    if mode == "fused":
        return fused.fused(network)
    return None if mode == "none" else cast(nn.Module, torch.compile(network, mode=mode, dynamic=False))


@contextlib.contextmanager
def compile_remedy(mode: str) -> Iterator[None]:
    """Turn what torch's compiler fails with into a StageError."""
    try:
        yield
    except Exception as error:
        if mode == "none" or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = " ".join(str(error).split())[:150]
        raise StageError(
            f"params.yaml: train.compile: {mode} does not work here ({reason}); choose none, or install a C++ compiler"
            " (Debian, Ubuntu: apt install g++)"
        ) from None
