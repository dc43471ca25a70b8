"""With augment.crop_size a network sees a square of whole pixels: anywhere in training, at the centre in testing."""

import torch
from torch.testing import assert_close

from pipeline.images import form, transform
from pipeline.images.recipe import recipe, varies

FORM = form.Format(6, (0.0,), (1.0,), crop=4)
PIPELINE = {"crop": 0.0, "aspect": 0.0, "shift": 0.0, "rotate": 0, "jitter": 0.0, "erase": 0.0}
SETTINGS = {"strength": 1.0, "flip": False, "minority": "light", "cutout": 0, "mixup": 0.0}
RECIPE = recipe(FORM, ["a"], [], {**SETTINGS, "light": PIPELINE, "strong": PIPELINE}, True, torch.device("cpu"))


def numbered(count: int, side: int = 6) -> torch.Tensor:
    """Images whose pixels are their places."""
    return torch.arange(side * side, dtype=torch.uint8).view(1, side, side, 1).repeat(count, 1, 1, 1)


def test_training_crops_are_every_square_equally_often_without_interpolation() -> None:
    pixels = numbered(900)
    found = transform.augment(pixels, transform.draw(900, 0, 0), torch.zeros(900, dtype=torch.bool), RECIPE)
    corners = (found[:, 0, 0, 0] * 255).round().long()
    counts = corners.bincount(minlength=36).view(6, 6)
    assert (counts[:3, :3] > 60).all()  # 100 each on the mean
    assert counts[3:].sum() == counts[:, 3:].sum() == 0
    place = int(corners[0])
    square = pixels[0, place // 6 :, place % 6 :][:4, :4, 0].float() / 255
    assert_close(found[0, 0], square)


def test_testing_takes_the_centre() -> None:
    found = form.prepare(numbered(1), FORM) * 255
    assert_close(found[0, 0], numbered(1)[0, 1:5, 1:5, 0].float())
    assert varies(RECIPE)
    resized = form.prepare(numbered(1), form.Format(4, (0.0,), (1.0,)))
    assert resized[0, 0, 0, 0] != found[0, 0, 0, 0] / 255


def test_images_of_another_size_are_brought_to_the_whole_ones_first() -> None:
    small = torch.full((2, 3, 3, 1), 7, dtype=torch.uint8)
    assert form.prepare(small, FORM).shape == (2, 1, 4, 4)
    assert transform.augment(small, transform.draw(2, 0, 0), torch.zeros(2, dtype=torch.bool), RECIPE).shape == (
        2,
        1,
        4,
        4,
    )
