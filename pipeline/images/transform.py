"""Augmentation of one batch: geometry and colour in one pass, from draws that the seed decides."""

import numpy as np
import torch
from torch import Tensor

from pipeline.images.augment.crop import LARGE, resized_crop
from pipeline.images.augment.erase import random_erase
from pipeline.images.augment.jitter import color_jitter
from pipeline.images.augment.pca import pca_jitter
from pipeline.images.augment.window import window
from pipeline.images.form import normalise
from pipeline.images.recipe import DRAWS, KEYS, MORE, Recipe


def draw(count: int, seed: int, epoch: int, wanted: int = DRAWS) -> Tensor:
    """Uniform numbers (count, wanted) in [0, 1): what chance decides for each image of an epoch."""
    found = np.random.default_rng([seed, epoch, 1]).random((count, DRAWS), dtype=np.float32)
    if wanted > DRAWS:
        more = np.random.default_rng([seed, epoch, 3]).random((count, MORE), dtype=np.float32)
        found = np.concatenate([found, more], axis=1)
    if wanted > DRAWS + MORE:
        last = np.random.default_rng([seed, epoch, 4]).random((count, wanted - DRAWS - MORE), dtype=np.float32)
        found = np.concatenate([found, last], axis=1)
    return torch.from_numpy(found)


def augment(pixels: Tensor, draws: Tensor, strong: Tensor, recipe: Recipe) -> Tensor:
    """pixels (N, H, W, 1 or 3) uint8, draws (N, recipe.draws), strong (N,) bool -> (N, C, S, S) normalised."""
    images = normalise(transform(pixels, draws, strong, recipe), recipe.format)
    if "erase" in recipe.used:
        erase = recipe.amplitudes[strong.long(), KEYS.index("erase")]
        images = random_erase(images, chosen=draws[:, 9] < erase, draws=draws[:, 10:14])
    for technique in recipe.techniques:
        images = technique.change(images, technique.amount, draws[:, technique.columns])
    return images


def transform(pixels: Tensor, draws: Tensor, strong: Tensor, recipe: Recipe) -> Tensor:
    """What moves pixels and changes colours: arguments as `augment`, returns (N, 1 or 3, S, S) in 0..255.

    Images that are only shifted and flipped stay whole pixels; a crop, a rotation or another size resamples them.
    """
    amplitudes = recipe.amplitudes[strong.long()]  # (N, 6)
    if recipe.policy != "none":
        from pipeline.images.augment.policy import auto_augment  # late: torchvision takes a second to import

        changed = auto_augment(pixels.permute(0, 3, 1, 2), recipe.policy, draws[:, DRAWS : DRAWS + 5])
        pixels = changed.permute(0, 2, 3, 1)
    images = moved(pixels, draws, amplitudes, recipe)
    if "jitter" in recipe.used:
        jitter = amplitudes[:, KEYS.index("jitter"), None]
        images = color_jitter(images, *(1 + (draws[:, 6:9] * 2 - 1) * jitter).unbind(1))
    if recipe.pca and recipe.axes is not None:
        channels = len(recipe.axes)
        images = pca_jitter(images.float(), recipe.axes, recipe.pca, draws[:, DRAWS + 5 : DRAWS + 5 + channels])
    return images


def moved(pixels: Tensor, draws: Tensor, amplitudes: Tensor, recipe: Recipe) -> Tensor:
    """pixels (N, H, W, 1 or 3), amplitudes (N, 6) -> (N, 1 or 3, S, S): crop, shift, rotation and flip in one pass."""
    crop, aspect, shift, rotate = amplitudes[:, :4].unbind(1)  # each (N,)
    signed = draws * 2 - 1
    height, width = pixels.shape[1:3]
    size, whole = recipe.format.size, recipe.format.whole
    down, right = signed[:, 2] * shift * height, signed[:, 3] * shift * width
    flip = draws[:, 4] < 0.5 if recipe.flip else None
    # (N, 2), of the square that is taken of a resized image
    places = (draws[:, 2:4] * (whole - size + 1)).floor().clamp(max=whole - size)
    if not recipe.used & {"crop", "aspect", "rotate"} and (height, width) == (whole, whole):
        if "shift" in recipe.used or flip is not None or size < whole:
            pixels = window(pixels, down.round() + places[:, 0], right.round() + places[:, 1], size, flip)
        return pixels.permute(0, 3, 1, 2)
    area = 1 - crop * draws[:, 0]
    stretch = torch.exp(signed[:, 1] * torch.log1p(aspect)).sqrt()
    tall = (area.sqrt() * stretch).clamp(max=1) * height
    wide = (area.sqrt() / stretch).clamp(max=1) * width
    top, left = draws[:, 2] * (height - tall) + down, draws[:, 3] * (width - wide) + right
    if size < whole:  # the same resampling reads that part alone
        top, left = top + places[:, 0] / whole * tall, left + places[:, 1] / whole * wide
        tall, wide = tall * (size / whole), wide * (size / whole)
    elif size >= LARGE and "shift" not in recipe.used:  # whole pixels, as torchvision's
        top, left, tall, wide = top.floor(), left.floor(), tall.round().clamp(min=1), wide.round().clamp(min=1)
    angle = signed[:, 5] * rotate if "rotate" in recipe.used else None
    return resized_crop(pixels.permute(0, 3, 1, 2), top, left, tall, wide, size, angle, flip)
