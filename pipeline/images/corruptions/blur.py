"""Blur: defocus, frosted glass, motion, zoom.

Lengths are of an image of 32 pixels a side, as the authors give them for CIFAR-10-C, and grow with the side.
Shapes: images (N, C, S, S) in 0..1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.images.corruptions import linear

SIDE = 32  # of the images of which lengths are given


def defocus_blur(images: Tensor, radius: float, edge: float, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """Each point becomes a disk, of an edge that is blurred itself."""
    side = images.shape[-1]
    kernel = linear.disk(radius * side / SIDE, edge * side / SIDE)
    reach = len(kernel) // 2

    def convolved(images: Tensor) -> Tensor:
        padded = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")
        return F.conv2d(padded, kernel[None, None]).view(images.shape)

    return linear.at_once(convolved, images)


def glass_blur(images: Tensor, sigma: float, distance: int, rounds: int, rng: torch.Generator) -> Tensor:
    """Each pixel becomes one up to a distance above and left of it, less than that below and right, between two blurs.

    As their code does, in which pixels that are to trade places both become the second.
    """
    side = images.shape[-1]
    blur = linear.gaussian(side, sigma * side / SIDE)
    shuffled, near = linear.apply(images, blur), max(1, round(distance * side / SIDE))
    every = torch.arange(side)
    for _ in range(rounds):
        drawn = torch.randint((2 * near) ** 2, (len(images), side, side), generator=rng)
        rows = (every[:, None] + drawn // (2 * near) - near).clamp(0, side - 1)
        columns = (every + drawn % (2 * near) - near).clamp(0, side - 1)
        places = (side * rows + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        shuffled = shuffled.flatten(2).gather(2, places).view(images.shape)
    return linear.apply(shuffled, blur)


def motion_blur(images: Tensor, radius: float, sigma: float, rng: torch.Generator) -> Tensor:
    """The image moved along a line within 45 degrees of the horizontal, another for each image."""
    return moved(images, radius, sigma, 90 * torch.rand(len(images), generator=rng) - 45)


def moved(images: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """The sum of images moved in directions (N,), with weights that fall with the distance as half a Gaussian does.

    The kernel is ImageMagick's; borders are repeated.
    """
    side, order = images.shape[-1], degrees.argsort()  # so that images that move alike are neighbours
    sigma, angles = sigma * side / SIDE, torch.deg2rad(degrees[order])
    length = min(2 * math.ceil(radius * side / SIDE), math.ceil(4 * sigma), side - 1)
    weights = torch.exp(-((torch.arange(length + 1) / sigma) ** 2) / 2)
    padded = F.pad(images[order], (length,) * 4, mode="replicate")
    total = torch.zeros(images.shape)
    for distance, weight in enumerate((weights / weights.sum()).tolist()):
        steps = torch.round(distance * torch.stack([angles.sin(), angles.cos()], 1)).long() + length  # (N, 2)
        alike, counts = torch.unique_consecutive(steps, dim=0, return_counts=True)
        ends = counts.cumsum(0).tolist()
        for (row, column), start, end in zip(alike.tolist(), [0, *ends], ends, strict=False):
            total[start:end].add_(padded[start:end, :, row : row + side, column : column + side], alpha=weight)
    return total[order.argsort()]


def zoom_blur(images: Tensor, largest: float, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """The mean of the image and of itself, enlarged about its centre by steps of a hundredth up to the largest."""
    steps = range(round(100 * (largest - 1)) + 1)
    matrices = [linear.zoom(images.shape[-1], 1 + step / 100) for step in steps]

    def mean(images: Tensor) -> Tensor:
        return sum((linear.apply(images, each) for each in matrices), images) / (len(matrices) + 1)

    return linear.at_once(mean, images)
