"""Class weights by inverse frequency, averaging one (as the weighted cross-entropy of Qubtan et al. 2026)."""

import torch
from torch import Tensor


def inverse_frequency(labels: Tensor, classes: int) -> Tensor:
    """labels (N,) -> (K,) weights proportional to 1 / count; every class must occur."""
    inverse = 1.0 / torch.bincount(labels, minlength=classes).double()
    return (inverse / inverse.mean()).float()
