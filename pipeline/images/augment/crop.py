"""Resized crop, rotation and left-right flip as one resampling.

Bilinear, half-pixel centres, no antialiasing, coordinates clamped to the crop: without a rotation and with whole
pixels it equals torchvision's `resized_crop(antialias=False)`. Departs from torchvision: crops may be fractional,
which matters for images of 8 pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.images.resample import crops

LARGE = 64  # pixels: from here on a kernel for uint8 is faster on a CPU than all images at once in float


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    size: int,
    angle: Tensor | None = None,
    flip: Tensor | None = None,
) -> Tensor:
    """Resample a crop of each image to `size` x `size`.

    images (N, C, H, W) in 0..255, uint8 or float; top, left, height, width (N,) in pixels; angle (N,) in degrees, about
    the crop's centre; flip (N,) bool. Returns (N, C, size, size), float, or uint8 of large uint8 images.
    """
    if images.dtype == torch.uint8 and images.device.type == "cpu" and angle is None and size >= LARGE:
        boxes = torch.stack([top, left, height, width], dim=1)
        if torch.equal(boxes, boxes.round()):
            return crops(images, boxes, size, flip)
    count, _, rows, columns = images.shape
    centres = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5) / size - 0.5  # (S,) in [-0.5, 0.5]
    x = centres.expand(count, size)  # (N, S)
    if flip is not None:
        x = torch.where(flip[:, None], -x, x)
    x = (x * width[:, None])[:, None, :]  # (N, 1, S) pixels from the crop's centre
    y = (centres * height[:, None])[:, :, None]  # (N, S, 1)
    if angle is not None:
        radians = angle * (math.pi / 180)
        cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
        x, y = cos * x - sin * y, sin * x + cos * y  # (N, S, S)
    x, y = (_clamp(x, width, left), _clamp(y, height, top))
    grid = torch.stack(  # pixel index -> [-1, 1] of grid_sample with align_corners
        torch.broadcast_tensors(x * (2 / max(columns - 1, 1)) - 1, y * (2 / max(rows - 1, 1)) - 1), dim=-1
    )  # (N, S, S, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


def _clamp(offset: Tensor, length: Tensor, start: Tensor) -> Tensor:
    """Offsets from a crop's centre -> pixel indices inside the crop."""
    length, start = length[:, None, None], start[:, None, None]
    index = offset + (length - 1) / 2
    return torch.minimum(index.clamp(min=0), (length - 1).clamp(min=0)) + start
