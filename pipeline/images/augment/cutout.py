"""Cutout (DeVries and Taylor 2017, arXiv:1708.04552): a square of every image is masked with the mean colour.

Its centre lies anywhere in the image, so that the square may reach over the border.
"""

import torch
from torch import Tensor

DRAWS = 2


def cutout(images: Tensor, side: float, draws: Tensor) -> Tensor:
    """images (N, C, H, W) normalised; side in pixels; draws (N, 2) in [0, 1): the centre's row and column."""
    side = round(side)
    rows, columns = (
        _inside(length, side, place) for length, place in zip(images.shape[-2:], draws.unbind(1), strict=True)
    )  # (N, H), (N, W)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _inside(length: int, side: int, place: Tensor) -> Tensor:
    """place (N,) in [0, 1) -> (N, length): the pixels of one axis that the square covers."""
    start = (place * length).floor() - side // 2
    pixels = torch.arange(length, device=place.device)
    return (pixels >= start[:, None]) & (pixels < (start + side)[:, None])
