"""Random erasing blanks one rectangle of the drawn area and shape, and nothing else."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close

from pipeline.images.augment.erase import AREA, random_erase

COUNT = 400


def erased(height: int, width: int, draws: Tensor) -> Tensor:
    """(N, H, W) bool: what is blank in images that were ones."""
    found = random_erase(torch.ones(len(draws), 3, height, width), torch.ones(len(draws), dtype=torch.bool), draws)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert found.amin(1).eq(found.amax(1)).all(), "all channels alike"
    return found[:, 0] == 0


def uniform(count: int = COUNT) -> Tensor:
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48), (8, 8)])
def test_one_full_rectangle_is_blank(height: int, width: int) -> None:
    for blank in erased(height, width, uniform()):
        rows, columns = blank.any(1).nonzero().flatten(), blank.any(0).nonzero().flatten()
        assert len(rows) == rows[-1] - rows[0] + 1
        assert len(columns) == columns[-1] - columns[0] + 1
        assert blank.sum() == len(rows) * len(columns) > 0


def test_its_area_and_shape_are_those_drawn() -> None:
    draws = uniform()
    blank = erased(96, 96, draws)
    tall, wide = blank.any(2).sum(1), blank.any(1).sum(1)
    area = AREA[0] + draws[:, 0] * (AREA[1] - AREA[0])
    aspect = torch.exp(math.log(0.3) + draws[:, 1] * math.log(3.3 / 0.3))
    wanted = torch.stack([area * aspect, area / aspect]).sqrt() * 96
    inside = wanted.amax(0) <= 96  # a rectangle too long for the image is cut
    assert inside.sum() > COUNT * 0.95
    assert_close(torch.stack([tall, wide])[:, inside].float(), wanted[:, inside], atol=0.51, rtol=0)
    assert blank.float().mean((1, 2)).max() <= 0.34
    assert blank.float().mean((1, 2)).min() >= 0.017


def test_every_pixel_can_be_hit_and_corners_are_reached() -> None:
    assert erased(16, 16, uniform(2000)).any(0).all()
    corner = torch.tensor([[0.3, 0.5, 0.0, 0.0], [0.3, 0.5, 0.9999, 0.9999]])
    first, last = erased(16, 16, corner)
    assert first[0, 0]
    assert last[-1, -1]


def test_it_is_torchvisions_erase_with_the_same_rectangle() -> None:
    image, draws = torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(4)), uniform(1)
    blank = erased(20, 30, draws)[0]
    top, left = blank.any(1).nonzero()[0].item(), blank.any(0).nonzero()[0].item()
    tall, wide = blank.any(1).sum().item(), blank.any(0).sum().item()
    wanted = oracle.erase(image, top, left, tall, wide, torch.zeros(3, 1, 1))
    assert_close(random_erase(image, torch.tensor([True]), draws), wanted, rtol=0, atol=0)


def test_images_not_chosen_stay_as_they_are_and_so_does_the_argument() -> None:
    images, chosen = torch.randn(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(5)), uniform()[:, 0] < 0.5
    before = images.clone()
    found = random_erase(images, chosen, uniform())
    assert found[~chosen].equal(images[~chosen])
    assert (found[chosen] != images[chosen]).flatten(1).any(1).all()
    assert images.equal(before)
