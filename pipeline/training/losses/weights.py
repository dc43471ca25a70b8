"""What a loss is averaged by: class weights, soft labels and label smoothing, the same for every loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def inverse_frequency(labels: Tensor, classes: int) -> Tensor:
    """labels (N,) -> (K,) weights proportional to 1 / count and averaging one; every class must occur.

    As the weighted cross-entropy of Qubtan et al. 2026.
    """
    inverse = 1.0 / torch.bincount(labels, minlength=classes).double()
    return (inverse / inverse.mean()).float()


def weighted_mean(
    losses: Tensor, targets: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """losses (N, K) of each class, targets (N,) classes or (N, K) shares, weight (K,). Returns a scalar.

    As torch's cross_entropy: with classes the mean is over the images' weights, with shares over the images.
    """
    count, classes = losses.shape
    if weight is None:
        weight = losses.new_ones(classes)
    soft = targets.ndim == 2
    shares = targets if soft else F.one_hot(targets, classes).to(losses)
    shares = shares * (1 - label_smoothing) + label_smoothing / classes
    return (losses * shares * weight).sum() / (count if soft else weight[targets].sum())
