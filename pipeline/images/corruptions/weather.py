"""Weather: snow, fog, brightness. Frost is left out: it takes photographs of frost, which are not ours to pass on.

Lengths are of an image of 32 pixels a side, as the authors give them for CIFAR-10-C, and grow with the side.
Shapes: images (N, C, S, S) in 0..1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.images.corruptions import linear
from pipeline.images.corruptions.blur import SIDE, moved
from pipeline.images.luma import grey


@dataclass(frozen=True)
class Flakes:
    """How snow falls: noise of a mean and deviation, enlarged, of which what is above a threshold is moved."""

    mean: float
    deviation: float
    size: float
    threshold: float
    radius: float  # of the movement
    sigma: float


def snow(images: Tensor, flakes: Flakes, kept: float, rng: torch.Generator) -> Tensor:
    """Flakes that fall aslant over an image that is bleached but for a share that is kept."""
    count, _, side = images.shape[:3]
    noise = flakes.mean + flakes.deviation * torch.randn((count, 1, side, side), generator=rng)
    larger = linear.apply(noise, linear.zoom(side, max(1.0, flakes.size * side / SIDE)))
    layer = torch.where(larger < flakes.threshold, 0.0, larger).clamp(0, 1)
    layer = moved(layer, flakes.radius, flakes.sigma, 90 * torch.rand(count, generator=rng) - 135)
    bleached = torch.maximum(images, grey(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * bleached + layer + layer.rot90(2, (2, 3))


def fog(images: Tensor, amount: float, decay: float, rng: torch.Generator) -> Tensor:
    """Clouds are added, and the whole is darkened until its brightest is as bright as before."""
    count, _, side = images.shape[:3]
    brightest = images.amax((1, 2, 3), keepdim=True)
    clouds = plasma(count, 1 << (side - 1).bit_length(), decay, rng)[:, None, :side, :side]
    scale = brightest / (brightest + amount)
    return (images + amount * clouds) * scale


def plasma(count: int, side: int, decay: float, rng: torch.Generator) -> Tensor:
    """Clouds (N, S, S) in 0..1 by the diamond-square algorithm, S a power of two; edges meet those across."""
    maps = torch.zeros(side, side, count)  # in this order neighbours in memory are treated alike
    step, wobble = side, 1.0
    while step >= 2:
        half = step // 2

        def between(four: Tensor, wobble: float = wobble) -> Tensor:
            """The mean of four neighbours, given their sum, and a random amount."""
            return four / 4 + wobble * (2 * torch.rand(four.shape, generator=rng) - 1)

        corners = maps[::step, ::step]
        below, beside = corners + corners.roll(-1, 0), corners + corners.roll(-1, 1)
        maps[half::step, half::step] = centres = between(below + below.roll(-1, 1))
        maps[::step, half::step] = between(beside + centres + centres.roll(1, 0))
        maps[half::step, ::step] = between(below + centres + centres.roll(1, 1))
        step, wobble = half, wobble / decay**2
    low, high = maps.amin((0, 1)), maps.amax((0, 1))
    return ((maps - low) / (high - low)).permute(2, 0, 1)


def brightness(images: Tensor, amount: float, rng: torch.Generator) -> Tensor:  # noqa: ARG001
    """More of HSV's value; hue and saturation stay, so that the channels grow by the same factor."""
    value = images.amax(1, keepdim=True)
    brighter = (value + amount).clamp(max=1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-6), brighter)
