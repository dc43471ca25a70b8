"""Corruptions do what their paper says, by the same seed the same, to grey and coloured images of any side."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from pipeline.images import corruptions
from pipeline.images.corruptions import blur, digital, linear, noise, weather

NAMES = tuple(corruptions.PANEL)


def pictures(count: int = 24, side: int = 28, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth coloured blobs (N, S, S, C), uint8."""
    found = np.random.default_rng(seed).random((count, side, side, channels))
    found = ndimage.gaussian_filter(found, (0, side / 12, side / 12, 0))
    low, high = found.min(axis=(1, 2), keepdims=True), found.max(axis=(1, 2), keepdims=True)
    return torch.from_numpy((255 * (found - low) / (high - low)).astype(np.uint8))


def in_floats(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def distance(pixels: Tensor, other: Tensor) -> float:
    return float((pixels.float() - other.float()).abs().mean())


@pytest.mark.parametrize("name", NAMES)
def test_the_strongest_changes_an_image_more_than_the_weakest_and_none_beyond_recognition(name: str) -> None:
    pixels = pictures()
    weak, strong = (corruptions.corrupted(pixels, name, severity, seed=0) for severity in (1, 5))
    if name != "elastic_transform":  # the paper's strengths trade the plane's movement for the pixels'
        assert distance(weak, pixels) < distance(strong, pixels)
    for found in (weak, strong):
        assert found.shape == pixels.shape
        assert found.dtype == torch.uint8
        assert 0 < distance(found, pixels) < 110  # of an image and its negative: 128
        same = np.corrcoef(found.flatten(1).float(), pixels.flatten(1).float())[:24, 24:]
        assert (same.argmax(1) == np.arange(24)).mean() > 0.9  # each is still closest to its own


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_images_whatever_else_was_drawn(name: str) -> None:
    pixels = pictures(6)
    first = corruptions.corrupted(pixels, name, 3, seed=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(corruptions.corrupted(pixels, name, 3, seed=1), first)
    assert torch.equal(torch.get_rng_state(), state)
    drawn = not torch.equal(corruptions.corrupted(pixels, name, 3, seed=2), first)
    certain = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert drawn == (name not in certain)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (33, 3), (64, 3)])
def test_images_of_any_side_grey_or_coloured_can_be_corrupted(side: int, channels: int) -> None:
    pixels = pictures(2, side, channels)
    for name in NAMES:
        found = corruptions.corrupted(pixels, name, 5, seed=0)
        assert found.shape == pixels.shape, name


def test_images_of_one_colour_stay_images() -> None:
    """A digit's margin is black: nothing may be divided by nothing."""
    pixels = torch.cat([torch.zeros(1, 28, 28, 1), torch.full((1, 28, 28, 1), 255)]).to(torch.uint8)
    for name in NAMES:
        for severity in (1, 5):
            found = corruptions.corrupted(pixels, name, severity, seed=0).float()
            assert found[0].mean() < found[1].mean(), name


# Each against what it is defined by


def test_noise_has_the_moments_that_it_is_named_by() -> None:
    grey = torch.full((1, 1, 400, 400), 0.5)
    assert noise.gaussian_noise(grey, 0.1, rng()).std().item() == pytest.approx(0.1, rel=0.02)
    shot = noise.shot_noise(grey, 50, rng())
    assert shot.mean().item() == pytest.approx(0.5, rel=0.01)
    assert shot.var().item() == pytest.approx(0.5 / 50, rel=0.03)
    impulses = noise.impulse_noise(grey, 0.06, rng())
    assert (impulses == 0).float().mean().item() == pytest.approx(0.03, abs=0.002)
    assert (impulses == 1).float().mean().item() == pytest.approx(0.03, abs=0.002)


def test_smoothing_and_pixelation_are_those_of_scipy_and_pillow() -> None:
    image = in_floats(pictures(1, 32, 1))
    found = linear.apply(image, linear.gaussian(32, 1.3))
    assert found[0, 0].numpy() == pytest.approx(
        ndimage.gaussian_filter(image[0, 0].numpy(), 1.3, mode="nearest"), abs=1e-5
    )
    pixels = Image.fromarray((image[0, 0].numpy() * 255).astype(np.uint8))
    small = pixels.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    assert digital.pixelate(image, 0.65, rng())[0, 0].numpy() * 255 == pytest.approx(np.asarray(small), abs=2)


def test_defocus_is_the_convolution_with_a_disk_by_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    images = in_floats(pictures(400, 12, 3))  # as many as make one product of matrices worth it
    found = blur.defocus_blur(images, 4.0, 0.5, rng())
    kernel = linear.disk(1.5, 0.5 * 12 / 32).numpy()
    wanted = ndimage.convolve(images[2, 2].numpy(), kernel, mode="mirror")
    assert found[2, 2].numpy() == pytest.approx(wanted, abs=1e-5)
    monkeypatch.setattr(linear, "SMALL", 0)
    assert torch.allclose(blur.defocus_blur(images, 4.0, 0.5, rng()), found, atol=1e-5)


def test_an_enlarged_image_is_scipys_about_its_centre() -> None:
    image = in_floats(pictures(1, 32, 1))
    middle = 15.5
    wanted = ndimage.affine_transform(image[0, 0].numpy(), np.eye(2) / 1.25, middle - middle / 1.25, order=1)
    assert linear.apply(image, linear.zoom(32, 1.25))[0, 0].numpy() == pytest.approx(wanted, abs=1e-5)


def test_a_moved_point_leaves_half_a_gaussian_in_its_direction() -> None:
    point = torch.zeros(2, 1, 33, 33)
    point[:, :, 16, 16] = 1
    found = blur.moved(point, 4.0, 1.5, torch.tensor([90.0, 0.0]))  # the first up, the second to the left
    sigma = 1.5 * 33 / 32
    weights = np.exp(-((np.arange(7) / sigma) ** 2) / 2)
    weights /= weights.sum()
    assert found[0, 0, 10:17, 16].flip(0).numpy() == pytest.approx(weights, abs=1e-3)
    assert found[1, 0, 16, 10:17].flip(0).numpy() == pytest.approx(weights, abs=1e-3)
    assert found.sum((1, 2, 3)).numpy() == pytest.approx(1, abs=1e-5)


def test_behind_frosted_glass_a_pixel_is_one_above_or_left_of_it() -> None:
    rows = torch.arange(32.0).view(1, 1, 32, 1).expand(4, 1, 32, 32) / 32
    moved = 32 * (rows - blur.glass_blur(rows, 0.0, 1, 1, rng()))
    assert set(moved[:, :, 1:].flatten().tolist()) == {0.0, 1.0}
    assert moved[:, :, 1:].mean().item() == pytest.approx(0.5, abs=0.03)


def test_fog_lies_as_clouds_do_and_keeps_the_brightest_as_bright() -> None:
    clouds = weather.plasma(20, 32, 3.0, rng())
    assert clouds.amin((1, 2)).tolist() == [0.0] * 20
    assert clouds.amax((1, 2)).tolist() == [1.0] * 20
    steps = (clouds[:, 1:] - clouds[:, :-1]).abs().mean()
    assert steps < 0.1 * 5 * clouds.std()  # neighbours are alike; of white noise they differ by 1.13 deviations
    white = torch.ones(1, 1, 32, 32)
    assert weather.fog(white, 1.5, 1.75, rng()).amax().item() == pytest.approx(1, abs=1e-5)


def test_brightness_keeps_hue_and_saturation_and_contrast_the_mean() -> None:
    from matplotlib.colors import rgb_to_hsv

    images = in_floats(pictures(4)) * 0.6 + 0.1
    before, after = (rgb_to_hsv(each.permute(0, 2, 3, 1)) for each in (images, weather.brightness(images, 0.2, rng())))
    assert after[..., :2] == pytest.approx(before[..., :2], abs=1e-3)
    assert after[..., 2] == pytest.approx(before[..., 2] + 0.2, abs=1e-5)
    found = digital.contrast(images, 0.3, rng())
    assert torch.allclose(found.mean((2, 3)), images.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found.std((2, 3)), 0.3 * images.std((2, 3)), atol=1e-6)


def test_an_elastic_transformation_without_strength_changes_nothing_and_with_it_moves_points_as_asked() -> None:
    images = in_floats(pictures(2, 32))
    assert torch.allclose(digital.elastic_transform(images, 0.0, 0.0, 0.0, rng()), images, atol=1e-5)
    ramp = torch.linspace(0, 1, 32).expand(50, 1, 32, 32).contiguous()  # says from which column a pixel was read
    moved = digital.elastic_transform(ramp, 0.0, 0.0, 0.05, rng()) - ramp
    assert 0.005 < moved[:, :, 16, 16].abs().mean() < 0.05  # within 0.05 of the side


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_jpeg_is_pillows_of_each_image_alone(side: int, channels: int) -> None:
    pixels = pictures(5, side, channels)
    found = corruptions.corrupted(pixels, "jpeg_compression", 5, seed=0)
    for image, other in zip(pixels, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1).numpy()).save(buffer, "JPEG", quality=40)
        alone = torch.from_numpy(np.array(Image.open(buffer))).view(image.shape)
        assert distance(alone, other) < (0.001 if channels == 1 else 0.3)  # colour bleeds over the border by a step
