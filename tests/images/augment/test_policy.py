"""AutoAugment does to each image of a batch what torchvision does to it alone."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from pipeline.images.augment.policy import auto_augment


def images(count: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pair_is_torchvisions_whatever_the_others_of_the_batch_get(channels: int) -> None:
    pairs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    count = 4 * len(pairs)  # every pair with both signs, both operations done
    pixels = images(count, channels)
    draws = torch.zeros(count, 5)
    draws[:, 0] = (torch.arange(count) % len(pairs) + 0.5) / len(pairs)
    draws[:, 3] = (torch.arange(count) // len(pairs) % 2) * 0.9
    draws[:, 4] = (torch.arange(count) // len(pairs) // 2) * 0.9
    found = auto_augment(pixels, "cifar10", draws)
    for row in range(count):
        alone = AutoAugment(AutoAugmentPolicy.CIFAR10)
        chosen = row % len(pairs), torch.zeros(2), (draws[row, 3:] < 0.5).long()
        alone.get_params = lambda _, chosen=chosen: chosen  # type: ignore[method-assign,misc]
        assert_close(found[row], alone(pixels[row]), atol=1, rtol=0, msg=f"{pairs[row % len(pairs)]}")


def test_an_operation_is_done_with_its_chance_and_else_the_image_stays() -> None:
    """The first pair inverts with chance 0.1 and raises contrast with chance 0.2."""
    pixels = images(2)
    draws = torch.tensor([[0.0, 0.11, 0.21, 0.0, 0.0], [0.0, 0.09, 0.21, 0.0, 0.0]])
    found = auto_augment(pixels, "cifar10", draws)
    assert found[0].equal(pixels[0])
    assert found[1].equal(255 - pixels[1])
    assert pixels.equal(images(2))
