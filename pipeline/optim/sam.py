"""Sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412), eqs. 2-3: step with the gradient found at the
worst neighbour of the weights, within an L2 ball of radius rho.

BatchNorm's running statistics are those of the weights themselves, not of their neighbours.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def at_worst_neighbour(network: nn.Module, rho: float) -> Iterator[None]:
    """Move the weights along their gradient by rho, clear the gradient, and restore the weights at the end."""
    parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.grad is not None]
    weights = [parameter.detach().clone() for parameter in parameters]
    gradients: list[Tensor] = [parameter.grad for parameter in parameters]  # type: ignore[misc]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    scale = rho / (norm + 1e-12)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    with torch.no_grad():
        torch._foreach_add_(parameters, list(torch._foreach_mul(gradients, scale)))
    for module in norms:
        module.momentum = 0.0
    network.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(parameters, weights)
