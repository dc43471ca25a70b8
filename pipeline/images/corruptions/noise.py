"""Noise: Gaussian (low light), shot (few photons), impulse (bits that flipped).

Shapes: images (N, C, S, S) in 0..1.
"""

import torch
from torch import Tensor


def gaussian_noise(images: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """x + N(0, deviation^2)"""
    return images + deviation * torch.randn(images.shape, generator=rng)


def shot_noise(images: Tensor, photons: float, rng: torch.Generator) -> Tensor:
    """Poisson(photons x) / photons: so many arrive where the image is white."""
    return torch.poisson(images * photons, generator=rng) / photons


def impulse_noise(images: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """This share of the values becomes black or white, evenly."""
    drawn = torch.rand(images.shape, generator=rng)
    return torch.where(drawn < share, (drawn < share / 2).float(), images)
