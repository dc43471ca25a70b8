"""Random erasing (Zhong et al. 2020, arXiv:1708.04896), with their area 2-33% and aspect 0.3-3.3.

Departs: fills with the mean colour (zero after normalisation); a rectangle too long for the image is cut, not redrawn.
"""

import math

import torch
from torch import Tensor

AREA = (0.02, 0.33)  # of the image
LOG_ASPECT = (math.log(0.3), math.log(3.3))


def random_erase(images: Tensor, chosen: Tensor, draws: Tensor) -> Tensor:
    """Zero a rectangle of the chosen images. images (N, C, H, W) normalised; chosen (N,) bool; draws (N, 4) in 0..1."""
    height, width = images.shape[-2:]
    area = AREA[0] + draws[:, 0] * (AREA[1] - AREA[0])
    aspect = torch.exp(LOG_ASPECT[0] + draws[:, 1] * (LOG_ASPECT[1] - LOG_ASPECT[0]))
    tall = ((area * aspect).sqrt() * height).round().clamp(1, height)  # (N,)
    wide = ((area / aspect).sqrt() * width).round().clamp(1, width)
    top = (draws[:, 2] * (height - tall + 1)).floor()
    left = (draws[:, 3] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])  # (N, H)
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])  # (N, W)
    erased = chosen[:, None, None] & inside_rows[:, :, None] & inside_columns[:, None, :]  # (N, H, W)
    return images.masked_fill(erased[:, None], 0.0)
