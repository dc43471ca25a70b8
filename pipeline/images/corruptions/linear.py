"""Changes that are linear in the pixels, as matrices.

Shapes: N images, C channels, S side.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SMALL = 48  # side in pixels, up to which the matrix of all pixels is small


def apply(images: Tensor, matrix: Tensor) -> Tensor:
    """M X M^T of each image and channel: images (N, C, S, S), matrix (S, S)."""
    turned = (images @ matrix.T).mT.contiguous()
    return (turned @ matrix.T).mT


def at_once(change: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`change`, which is linear, of images (N, C, S, S): of many small ones as one product of matrices.

    The matrix is what it makes of each pixel alone.
    """
    count, channels, side = images.shape[:3]
    if side > SMALL or count * channels < side**2:
        return change(images)
    pixels = torch.eye(side**2).view(side**2, 1, side, side)
    return (images.reshape(count * channels, -1) @ change(pixels).reshape(side**2, -1)).view(images.shape)


def gaussian(side: int, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Tensor:
    """The matrix of a Gaussian blur of sigma pixels; with sigma 0 that of no change."""
    from scipy.ndimage import gaussian_filter1d

    each = np.eye(side)  # its columns, blurred, are the matrix's
    return torch.from_numpy(
        gaussian_filter1d(each, sigma, axis=0, mode=mode, truncate=truncate) if sigma else each
    ).float()


def zoom(side: int, factor: float) -> Tensor:
    """The matrix of a bilinear zoom about the centre, by a factor of at least 1; what leaves the image is cut off."""
    middle = (side - 1) / 2
    read = (torch.arange(side, dtype=torch.float64) - middle) / factor + middle  # where each new pixel lies
    return (1 - (read[:, None] - torch.arange(side)).abs()).clamp(min=0).float()


def coarser(side: int, share: float) -> Tensor:
    """The matrix of Pillow's box filter down to this share of the side, and up again."""
    few = max(1, int(side * share))
    identity = Image.fromarray(np.eye(side, dtype=np.float32))
    down = np.asarray(identity.resize((few, side), Image.Resampling.BOX)).T  # (few, S)
    up = np.asarray(Image.fromarray(np.eye(few, dtype=np.float32)).resize((side, few), Image.Resampling.BOX)).T
    return torch.from_numpy(up @ down)


def disk(radius: float, sigma: float) -> Tensor:
    """A kernel (K, K) that is even within a radius in pixels, its edge blurred by sigma; its sum is 1."""
    from scipy.ndimage import gaussian_filter

    reach = math.ceil(radius + 3 * sigma)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    even = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    return torch.from_numpy(gaussian_filter(even / even.sum(), sigma, mode="constant")).float()
