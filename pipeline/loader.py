"""Packed images -> augmented batches, a whole batch at a time, on the device where the model is.

Every image draws its own augmentation parameters from a generator keyed by (seed, epoch), one row for each place in the
epoch's order: the batch size changes nothing, and an image that is sampled twice looks different twice.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.augment.crop import resized_crop
from pipeline.augment.erase import random_erase
from pipeline.augment.jitter import color_jitter
from pipeline.stage import StageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DRAWS = 14  # area, aspect, top, left, flip, angle, brightness, contrast, saturation, erase or not, and its four


@dataclasses.dataclass(frozen=True)
class Images:
    """A split as it lies on disk: pixels (N, S, S, C) uint8, memory-mapped, and labels (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What augmentation does to an image: the amplitudes of its pipeline, light or strong."""

    size: int
    flip: bool
    amplitudes: Tensor  # (2, 5): light, strong x crop, aspect, rotate (degrees), jitter, erase (probability)
    strong: Tensor  # (K,) bool: the classes that get the strong pipeline


def read(folder: Path, prefix: str = "") -> Images:
    """Open a packed split, `folder/[prefix]images.npy` and its labels."""
    try:
        pixels = np.load(folder / f"{prefix}images.npy", mmap_mode="c")  # private pages: torch wants them writable
        labels = np.load(folder / f"{prefix}labels.npy")
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; run `dvc repro` or `python -m pipeline.split` first") from None
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def resident(images: Images, device: torch.device) -> Images:
    """The same split with its pixels in GPU memory, if they take less than a quarter of what is free there."""
    if device.type == "cuda" and images.pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
        return Images(images.pixels.to(device), images.labels)
    return images


def read_info(folder: Path) -> dict[str, Any]:
    """What split says of the images in `folder`."""
    try:
        return json.loads((folder / "info.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; run `dvc repro` or `python -m pipeline.split` first") from None


def recipe(
    size: int, classes: list[str], minority: list[str], augment: dict[str, Any], flip: bool, device: torch.device
) -> Recipe:
    """The augmentation of a study; `augment` as in params.yaml, `flip` false where the data set forbids it."""
    strength = augment["strength"]
    keys = ("crop", "aspect", "rotate", "jitter", "erase")
    amplitudes = torch.tensor([[augment[name][key] for key in keys] for name in ("light", "strong")])
    limits = torch.tensor([0.99, 0.99, 180.0, 1.0, 1.0])
    strong = [name in minority and augment["minority"] == "strong" for name in classes]
    return Recipe(
        size=size,
        flip=flip and augment["flip"] and strength > 0,
        amplitudes=torch.minimum(amplitudes * strength, limits).to(device),
        strong=torch.tensor(strong, device=device),
    )


def order(labels: Tensor, sampler: str, seed: int, epoch: int) -> Tensor:
    """The images of one epoch: a shuffle, or draws with replacement by inverse class frequency. Returns (N,) rows."""
    rng = _torch_rng(seed, epoch)
    if sampler == "shuffle":
        return torch.randperm(len(labels), generator=rng)
    weights = 1.0 / torch.bincount(labels)[labels].double()  # as torch's WeightedRandomSampler draws
    return torch.multinomial(weights, len(labels), replacement=True, generator=rng)


def draw(count: int, seed: int, epoch: int) -> Tensor:
    """Uniform numbers (count, DRAWS) in [0, 1): what chance decides for each image of an epoch."""
    rng = np.random.default_rng([seed, epoch, 1])
    return torch.from_numpy(rng.random((count, DRAWS), dtype=np.float32))


def train_batches(
    images: Images, recipe: Recipe, *, sampler: str, batch_size: int, seed: int, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches: (N, 3, S, S) normalised and (N,) labels, on `device`.

    A last batch of a single image is left out: batch normalisation has no variance to work with.
    """
    rows = order(images.labels, sampler, seed, epoch)
    draws = draw(len(rows), seed, epoch).to(device, non_blocking=True)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        if len(batch) == 1 and start:
            return
        labels = images.labels[batch].to(device, non_blocking=True)
        pixels = images.pixels[batch].to(device, non_blocking=True)
        yield augment(pixels, draws[start : start + batch_size], recipe.strong[labels], recipe), labels


def test_batches(images: Images, size: int, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in their order, resized and normalised: (N, 3, S, S) and (N,) labels, on `device`."""
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        yield prepare(images.pixels[part].to(device), size), images.labels[part].to(device)


def augment(pixels: Tensor, draws: Tensor, strong: Tensor, recipe: Recipe) -> Tensor:
    """pixels (N, H, W, C) uint8, draws (N, DRAWS), strong (N,) bool -> (N, 3, S, S) normalised."""
    crop, aspect, rotate, jitter, erase = recipe.amplitudes[strong.long()].unbind(1)  # each (N,)
    signed = draws * 2 - 1
    height, width = pixels.shape[1:3]
    area = 1 - crop * draws[:, 0]
    stretch = torch.exp(signed[:, 1] * torch.log1p(aspect)).sqrt()
    tall = (area.sqrt() * stretch).clamp(max=1) * height
    wide = (area.sqrt() / stretch).clamp(max=1) * width
    images = resized_crop(
        _channels_first(pixels),
        top=draws[:, 2] * (height - tall),
        left=draws[:, 3] * (width - wide),
        height=tall,
        width=wide,
        size=recipe.size,
        angle=signed[:, 5] * rotate,
        flip=(draws[:, 4] < 0.5) if recipe.flip else None,
    )
    images = color_jitter(images, *(1 + signed[:, 6:9] * jitter[:, None]).unbind(1))
    return random_erase(_normalise(images), chosen=draws[:, 9] < erase, draws=draws[:, 10:])


def prepare(pixels: Tensor, size: int) -> Tensor:
    """pixels (N, H, W, C) uint8 -> (N, 3, size, size) normalised, without augmentation."""
    images = _channels_first(pixels)
    if images.shape[-2:] != (size, size):
        images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    return _normalise(images)


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).to(torch.float32)


def _normalise(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) in 0..255 -> (N, 3, H, W) with ImageNet's mean and deviation, channels last in memory."""
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _torch_rng(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 0]).generate_state(1, np.uint64)[0]))
