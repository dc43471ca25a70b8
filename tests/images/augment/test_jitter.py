"""Brightness, contrast and saturation are torchvision's, with factors of their own for each image."""

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close

from pipeline.images.augment.jitter import color_jitter

FACTORS = [0.0, 0.3, 0.8, 1.0, 1.2, 1.9]
WITHIN = {"atol": 1.0, "rtol": 0.0}  # one grey level of 255


def pictures(channels: int = 3) -> Tensor:
    return torch.rand(len(FACTORS), channels, 9, 14, generator=torch.Generator().manual_seed(1)) * 255


def jitter(images: Tensor, **factors: Tensor) -> Tensor:
    one = torch.ones(len(images))
    return color_jitter(images, **{"brightness": one, "contrast": one, "saturation": one, **factors})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_each_is_torchvisions(kind: str, channels: int) -> None:
    images = pictures(channels)
    found = jitter(images, **{kind: torch.tensor(FACTORS)})
    adjust = getattr(oracle, f"adjust_{kind}")
    wanted = torch.stack([adjust(image / 255, factor) * 255 for image, factor in zip(images, FACTORS, strict=True)])
    assert_close(found, wanted, **WITHIN)


def test_together_they_are_brightness_then_contrast_then_saturation() -> None:
    images = pictures()
    brightness, contrast, saturation = torch.rand(3, len(images), generator=torch.Generator().manual_seed(2)) * 1.8
    found = color_jitter(images, brightness, contrast, saturation)
    for index, image in enumerate(images):
        wanted = oracle.adjust_brightness(image / 255, brightness[index].item())
        wanted = oracle.adjust_contrast(wanted, contrast[index].item())
        wanted = oracle.adjust_saturation(wanted, saturation[index].item())
        assert_close(found[index], wanted * 255, **WITHIN)


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_of_one_change_nothing(channels: int) -> None:
    images = pictures(channels)
    assert_close(jitter(images), images, atol=1e-3, rtol=0)


def test_limiting_cases_black_flat_and_grey() -> None:
    images, none = pictures(), torch.zeros(len(FACTORS))
    assert jitter(images, brightness=none).eq(0).all()
    flat = jitter(images, contrast=none)
    assert_close(flat, flat.mean((1, 2, 3), keepdim=True).expand_as(flat), atol=1e-3, rtol=0)
    grey = jitter(images, saturation=none)
    assert_close(grey[:, 0], grey[:, 1])
    assert_close(grey[:, 0], grey[:, 2])


def test_nothing_leaves_0_to_255() -> None:
    most = torch.full((len(FACTORS),), 2.0)
    found = color_jitter(pictures(), most, most, most)
    assert found.min() == 0
    assert found.max() == 255
