"""Whole pixels, moved: a shift and a flip change no value, and the border is repeated."""

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor

from pipeline.images.augment.window import gather, window

HEIGHT, WIDTH = 9, 12


def pictures(channels: int, count: int = 40) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, HEIGHT, WIDTH, channels), dtype=torch.uint8, generator=rng)


def corners(low: int, high: int, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    top, left = torch.randint(low, high + 1, (2, count), generator=rng).float()
    return top, left, torch.rand(count, generator=rng) < 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [4, 9, 15])
@pytest.mark.parametrize("reach", [(0, 0), (0, 3), (-5, 5), (-30, -20), (20, 30)])
def test_a_window_is_torchvisions_padding_crop_and_flip(reach: tuple[int, int], size: int, channels: int) -> None:
    images, (top, left, flip), pad = pictures(channels), corners(*reach), 40
    found = window(images, top, left, size, flip)
    for image, y, x, mirrored, result in zip(images, top.int(), left.int(), flip, found, strict=True):
        wide = oracle.pad(image.movedim(-1, 0), [pad] * 4, padding_mode="edge")
        wanted = oracle.crop(wide, int(y) + pad, int(x) + pad, size, size)
        assert torch.equal(result.movedim(-1, 0), oracle.horizontal_flip(wanted) if mirrored else wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_runs_of_bytes_and_single_pixels_agree(channels: int) -> None:
    images, (top, left, flip) = pictures(channels), corners(-7, 7)
    for mirror in (flip, None):
        assert torch.equal(window(images, top, left, 8, mirror), gather(images, top, left, 8, mirror))


def test_the_images_given_are_left_as_they_were() -> None:
    images = pictures(3)
    before = images.clone()
    window(images, torch.zeros(40), torch.zeros(40), HEIGHT, torch.ones(40, dtype=torch.bool))
    assert torch.equal(images, before)
