"""Sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412), eqs. 2-3: step with the gradient found at the
worst neighbour of the weights, within an L2 ball of radius rho.

BatchNorm's running statistics are those of the weights themselves, not of their neighbours.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


@contextlib.contextmanager
def at_worst_neighbour(network: nn.Module, rho: float) -> Iterator[None]:
    """Move the weights along their gradient by rho, clear the gradient, and restore the weights at the end."""
    parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.grad is not None]
    weights = [parameter.detach().clone() for parameter in parameters]
    gradients: list[Tensor] = [parameter.grad for parameter in parameters]  # type: ignore[misc]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    scale = rho / (norm + 1e-12)
    running = [buffer for module in network.modules() if isinstance(module, BatchNorm) for buffer in statistics(module)]
    kept = [buffer.clone() for buffer in running]
    with torch.no_grad():
        torch._foreach_add_(parameters, list(torch._foreach_mul(gradients, scale)))
    network.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, weights)
            if running:  # whatever the neighbour's are: NaN where a float16 gradient overflowed
                torch._foreach_copy_(running, kept)


def statistics(module: BatchNorm) -> list[Tensor]:
    return [buffer for buffer in (module.running_mean, module.running_var) if buffer is not None]
