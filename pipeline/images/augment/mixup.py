"""Mixup (Zhang et al. 2018, arXiv:1710.09412): train on weighted sums of two images and of their losses.

One share for a batch, as the paper's and Composer's code draw it.
"""

import numpy as np
import torch
from torch import Tensor


def mixup(images: Tensor, partners: Tensor, share: float) -> Tensor:
    """images (N, ...), partners (N,) rows of the batch; the image itself weighs `share`. Returns the same shape."""
    return torch.lerp(images[partners], images, share)


def shares(steps: int, alpha: float, rng: np.random.Generator) -> list[float]:
    """Each step's share of an image itself: Beta(alpha, alpha), folded to one half or more, as partners are random."""
    drawn = rng.beta(alpha, alpha, size=steps)
    return np.maximum(drawn, 1 - drawn).tolist()
