"""Cutout masks one square, cut at the border, whose centre is anywhere in the image with equal chance."""

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close

from pipeline.images.augment.cutout import cutout


def uniform(count: int = 500) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(0))


def masked(side: int, draws: Tensor, height: int = 28, width: int = 28) -> Tensor:
    """(N, H, W) bool: what is masked in images that were ones."""
    found = cutout(torch.ones(len(draws), 3, height, width), side, draws)
    assert found.amin(1).eq(found.amax(1)).all(), "all channels alike"
    return found[:, 0] == 0


@pytest.mark.parametrize("side", [1, 5, 10])
def test_it_is_torchvisions_erase_of_the_square_as_far_as_it_lies_in_the_image(side: int) -> None:
    pictures, draws = torch.randn(500, 3, 20, 30, generator=torch.Generator().manual_seed(1)), uniform()
    before = pictures.clone()
    found = cutout(pictures, side, draws)
    assert pictures.equal(before)
    for picture, result, (y, x) in zip(pictures, found, (draws * torch.tensor([20, 30])).int().tolist(), strict=True):
        top, left = y - side // 2, x - side // 2
        bottom, right = min(top + side, 20), min(left + side, 30)
        top, left = max(top, 0), max(left, 0)
        wanted = oracle.erase(picture, top, left, bottom - top, right - left, torch.zeros(3, 1, 1))
        assert_close(result, wanted, rtol=0, atol=0)


def test_the_square_is_whole_inside_the_image_and_cut_at_its_corners() -> None:
    centre, first, last = masked(10, torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.9999, 0.9999]]))
    assert centre[9:19, 9:19].all()
    assert centre.sum() == 100
    assert first[:5, :5].all()
    assert first.sum() == 25
    assert last[-6:, -6:].all()
    assert last.sum() == 36


def test_each_pixel_is_covered_as_often_as_a_uniform_centre_covers_it() -> None:
    """By counting: of 28 places a pixel lies in the square of 10, fewer near the border."""
    places = torch.arange(28)[:, None] - 5 + torch.arange(10)
    rows = torch.bincount(places[(places >= 0) & (places < 28)], minlength=28) / 28
    coverage = masked(10, uniform(40_000)).float().mean(0)
    assert_close(coverage, rows[:, None] * rows, atol=0.01, rtol=0)


def test_a_square_of_no_pixels_masks_nothing_and_a_large_one_everything() -> None:
    assert not masked(0, uniform()).any()
    assert masked(56, uniform()).all()
