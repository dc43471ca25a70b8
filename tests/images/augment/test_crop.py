"""One resampling does what torchvision does in three: resized crop, rotation, flip."""

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close

from pipeline.images.augment.crop import LARGE, resized_crop

WITHIN = {"atol": 1.0, "rtol": 0.0}  # one grey level of 255


def pictures(count: int = 3, channels: int = 3, height: int = 20, width: int = 20) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) * 255


def crop(images: Tensor, box: tuple[float, float, float, float], size: int, **options: Tensor) -> Tensor:
    """The same box (top, left, height, width) for every image."""
    top, left, height, width = (torch.full((len(images),), float(side)) for side in box)
    return resized_crop(images, top, left, height, width, size, **options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [7, 16, 20, 33])
@pytest.mark.parametrize("box", [(0, 0, 20, 20), (3, 5, 11, 14), (12, 0, 8, 20), (19, 19, 1, 1)])
def test_a_crop_of_whole_pixels_is_torchvisions_resized_crop(
    box: tuple[int, int, int, int], size: int, channels: int
) -> None:
    images = pictures(channels=channels)
    wanted = oracle.resized_crop(images, *box, size=[size, size], antialias=False)
    assert_close(crop(images, box, size), wanted, **WITHIN)


def test_images_that_are_not_square_are_cropped_alike() -> None:
    images = pictures(height=12, width=31)
    wanted = oracle.resized_crop(images, 2, 7, 9, 20, size=[16, 16], antialias=False)
    assert_close(crop(images, (2, 7, 9, 20), 16), wanted, **WITHIN)


def test_every_image_has_a_box_of_its_own() -> None:
    images, boxes = pictures(), [(0, 0, 20, 20), (4, 2, 10, 12), (9, 8, 7, 5)]
    columns = torch.tensor(boxes, dtype=torch.float32).unbind(1)
    found = resized_crop(images, *columns, size=16)
    for image, box, result in zip(images, boxes, found, strict=True):
        assert_close(result, oracle.resized_crop(image, *box, size=[16, 16], antialias=False), **WITHIN)


def test_the_whole_image_at_its_own_size_is_the_image() -> None:
    images = pictures()
    assert_close(crop(images, (0, 0, 20, 20), 20), images, atol=1e-3, rtol=0)


def test_a_fractional_crop_lies_between_its_whole_neighbours() -> None:
    ramp = torch.arange(20.0).expand(1, 1, 20, 20)  # each pixel is its column
    for left in (3.0, 3.25, 3.5, 4.0):
        found = crop(ramp, (0, left, 10, 10), 10)
        assert_close(found, (torch.arange(10.0) + left).expand(1, 1, 10, 10), atol=1e-3, rtol=0)


def test_a_crop_takes_nothing_from_outside_of_it() -> None:
    images = torch.zeros(1, 1, 20, 20)
    images[:, :, 5:12, 4:16] = 100
    for size in (6, 12, 40):
        assert_close(crop(images, (5, 4, 7, 12), size), torch.full((1, 1, size, size), 100.0), atol=1e-2, rtol=0)


def test_a_flip_is_torchvisions_of_the_crop_and_only_where_asked() -> None:
    images, chosen = pictures(), torch.tensor([True, False, True])
    plain = oracle.resized_crop(images, 3, 5, 11, 14, size=[16, 16], antialias=False)
    found = crop(images, (3, 5, 11, 14), 16, flip=chosen)
    assert_close(found[chosen], oracle.horizontal_flip(plain[chosen]), **WITHIN)
    assert_close(found[~chosen], plain[~chosen], **WITHIN)


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3), (270, 3), (360, 0)])
def test_quarter_turns_are_those_of_rot90_positive_counterclockwise(degrees: float, quarters: int) -> None:
    images = pictures()
    found = crop(images, (0, 0, 20, 20), 20, angle=torch.full((3,), float(degrees)))
    assert_close(found, torch.rot90(images, quarters, dims=(2, 3)), **WITHIN)


@pytest.mark.parametrize("degrees", [-40.0, 7.5, 15.0, 120.0])
def test_other_angles_are_torchvisions_rotation_inside_the_circle_that_never_leaves_the_image(degrees: float) -> None:
    images = pictures(height=32, width=32)
    found = crop(images, (0, 0, 32, 32), 32, angle=torch.full((3,), degrees))
    wanted = oracle.rotate(images, degrees, interpolation=oracle.InterpolationMode.BILINEAR)
    away = torch.arange(32.0) - 15.5
    circle = away[:, None] ** 2 + away**2 <= 15**2
    assert_close(found[:, :, circle], wanted[:, :, circle], **WITHIN)


def test_the_crop_is_turned_first_and_then_flipped() -> None:
    images = pictures()
    found = crop(images, (0, 0, 20, 20), 20, angle=torch.full((3,), 90.0), flip=torch.ones(3, dtype=torch.bool))
    turned = torch.rot90(images, 1, dims=(2, 3))
    assert_close(found, oracle.horizontal_flip(turned), **WITHIN)


def test_one_pixel_can_be_enlarged() -> None:
    assert_close(crop(torch.full((1, 3, 1, 1), 9.0), (0, 0, 1, 1), 8), torch.full((1, 3, 8, 8), 9.0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("box", [(0, 0, 90, 80), (7, 3, 40, 77), (89, 79, 1, 1)])
def test_large_images_of_whole_numbers_are_cropped_one_by_one_to_the_same(
    box: tuple[int, int, int, int], channels: int
) -> None:
    images = pictures(count=6, channels=channels, height=90, width=80)
    whole = images.round().byte()
    flip = torch.tensor([True, False] * 3)
    fast, slow = crop(whole, box, LARGE, flip=flip), crop(whole.float(), box, LARGE, flip=flip)
    assert fast.dtype == torch.uint8  # so it was another way
    assert_close(fast.float(), slow, atol=1.01, rtol=0.0)  # the kernel rounds after each direction
