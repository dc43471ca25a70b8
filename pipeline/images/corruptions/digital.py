"""Digital: contrast, elastic transformation, pixelation, JPEG.

Lengths are shares of the side. Shapes: images (N, C, S, S) in 0..1.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipeline.images import picture
from pipeline.images.corruptions import linear

BLOCK, HIGHEST = 16, 65_500  # pixels of a JPEG


def contrast(images: Tensor, share: float, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """What each channel deviates from its mean is lessened to this share."""
    means = images.mean((2, 3), keepdim=True)
    return means + share * (images - means)


def elastic_transform(images: Tensor, size: float, sigma: float, corners: float, rng: torch.Generator) -> Tensor:
    """Three points move by up to `corners`, the plane with them, and each pixel by smoothed noise of a size.

    Departs: both are one interpolation, not two.
    """
    count, _, side = images.shape[:3]
    blur = linear.gaussian(side, sigma * side, mode="reflect", truncate=3.0)
    right, down = size * side * linear.apply(2 * torch.rand((2, count, side, side), generator=rng) - 1, blur)
    across, along = torch.arange(side) + right, torch.arange(side)[:, None] + down  # (N, S, S)
    matrix = _affine(count, side, corners, rng)[..., None, None]
    read = matrix[:, 0] * across[:, None] + matrix[:, 1] * along[:, None] + matrix[:, 2]  # pixels, (N, 2, S, S)
    grid = read.permute(0, 2, 3, 1) * (2 / (side - 1)) - 1
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


def _affine(count: int, side: int, corners: float, rng: torch.Generator) -> Tensor:
    """Where (x, y, 1) is read from, as matrices (N, 3, 2), when three points about the centre move at random."""
    middle, reach = side // 2, side // 3
    points = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * reach + middle
    jitter = corners * side * (2 * torch.rand((count, 3, 2), generator=rng) - 1)
    ends = torch.cat([points + jitter, torch.ones(count, 3, 1)], -1)
    return torch.linalg.solve(ends, points.expand(count, 3, 2))


def pixelate(images: Tensor, share: float, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """Down to this share of the side, and up again, without smoothing."""
    return linear.apply(images, linear.coarser(images.shape[-1], share))


def jpeg_compression(images: Tensor, quality: int, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """Written and read as JPEG of a quality of 1 to 100, by Pillow.

    Many images are one file, below each other: JPEG looks at blocks of 16 pixels a side at most, and beyond them only
    at the next row of colours, so that a block of repeated border keeps images apart. Grey images come out as they
    would alone; the colours of the last row and column may differ a little, and those of the last block where the side
    is no multiple of 16.
    """
    side = images.shape[-1]
    filled = (side + 2 + BLOCK - 1) // BLOCK * BLOCK - side
    padded = F.pad(images, (0, filled, BLOCK, filled), mode="replicate")
    pixels = (padded * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    read = torch.cat([_as_jpeg(each, quality) for each in pixels.split(HIGHEST // pixels.shape[1])])
    return read[:, BLOCK : BLOCK + side, :side].permute(0, 3, 1, 2).float() / 255


def _as_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """Images (N, H, W, C) that have been one file."""
    column, buffer = pixels.flatten(0, 1).squeeze(-1).numpy(), io.BytesIO()
    Image.fromarray(column).save(buffer, "JPEG", quality=quality)
    read = picture.opened(buffer.getvalue(), "a corrupted image", ("JPEG",))
    return torch.from_numpy(np.array(read)).view(pixels.shape)
