"""Common corruptions (Hendrycks and Dietterich 2019, arXiv:1903.12261) in five strengths, drawn by seed.

What each does and by how much is as in their code for CIFAR-10-C (github.com/hendrycks/robustness, Apache-2.0): the
strengths are those for images of 32 pixels a side, gentler than those for ImageNet. Departs: lengths in pixels grow
with the side; frost is left out (weather.py); elastic transformation and JPEG as their docstrings say. Many images
are corrupted at once, grey ones as they are.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.images.corruptions import blur, digital, noise, weather
from pipeline.images.corruptions.weather import Flakes

SEVERITIES = (1, 2, 3, 4, 5)
AT_ONCE = 2**21  # values of the images that are corrupted together
Change = Callable[[Tensor, torch.Generator], Tensor]  # of images (N, C, S, S) in 0..1


@dataclass(frozen=True)
class Corruption:
    """One of the panel: its kind, and its changes from the weakest to the strongest."""

    kind: str
    changes: tuple[Change, ...]


def _in_strengths(kind: str, change: Callable[..., Tensor], *strengths: object) -> Corruption:
    """`change` with the arguments of each strength: one value, or several."""
    arguments = [each if isinstance(each, tuple) else (each,) for each in strengths]
    return Corruption(kind, tuple(functools.partial(_changed, change, each) for each in arguments))


def _changed(
    change: Callable[..., Tensor], arguments: tuple[object, ...], images: Tensor, rng: torch.Generator
) -> Tensor:
    return change(images, *arguments, rng=rng)


PANEL = {
    "gaussian_noise": _in_strengths("noise", noise.gaussian_noise, 0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": _in_strengths("noise", noise.shot_noise, 500, 250, 100, 75, 50),
    "impulse_noise": _in_strengths("noise", noise.impulse_noise, 0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": _in_strengths(
        "blur", blur.defocus_blur, (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)
    ),
    "glass_blur": _in_strengths(
        "blur", blur.glass_blur, (0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)
    ),
    "motion_blur": _in_strengths("blur", blur.motion_blur, (6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    "zoom_blur": _in_strengths("blur", blur.zoom_blur, 1.05, 1.10, 1.15, 1.20, 1.25),
    "snow": _in_strengths(
        "weather",
        weather.snow,
        (Flakes(0.1, 0.2, 1.0, 0.6, 8, 3), 0.95),
        (Flakes(0.1, 0.2, 1.0, 0.5, 10, 4), 0.9),
        (Flakes(0.15, 0.3, 1.75, 0.55, 10, 4), 0.9),
        (Flakes(0.25, 0.3, 2.25, 0.6, 12, 6), 0.85),
        (Flakes(0.3, 0.3, 1.25, 0.65, 14, 12), 0.8),
    ),
    "fog": _in_strengths("weather", weather.fog, (0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "brightness": _in_strengths("weather", weather.brightness, 0.05, 0.10, 0.15, 0.20, 0.30),
    "contrast": _in_strengths("digital", digital.contrast, 0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": _in_strengths(
        "digital",
        digital.elastic_transform,
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": _in_strengths("digital", digital.pixelate, 0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": _in_strengths("digital", digital.jpeg_compression, 80, 65, 58, 50, 40),
}


def corrupted(pixels: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """pixels (N, S, S, 1 or 3) uint8 -> the same images corrupted; the same seed gives the same ones."""
    key = hashlib.sha256(f"{seed} {name} {severity}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(key[:8]))
    change = PANEL[name].changes[severity - 1]
    return torch.cat([_in_bytes(change(images, rng)) for images in _in_parts(pixels)])


def _in_parts(pixels: Tensor) -> Iterator[Tensor]:
    """Images (n, C, S, S) in 0..1, as many as memory takes; how many depends on their size alone."""
    for part in pixels.split(max(1, AT_ONCE // pixels[0].numel())):
        yield part.permute(0, 3, 1, 2).float() / 255


def _in_bytes(images: Tensor) -> Tensor:
    """(n, C, S, S) -> (n, S, S, C) uint8"""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
