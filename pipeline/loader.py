"""Packed images -> augmented batches, a whole batch at a time, on the device where the model is.

Every image draws its own augmentation parameters from a generator keyed by (seed, epoch), one row for each place in the
epoch's order: the batch size changes nothing, and an image that is sampled twice looks different twice.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.augment.crop import resized_crop
from pipeline.augment.cutout import cutout
from pipeline.augment.erase import random_erase
from pipeline.augment.jitter import LUMA, color_jitter, grey
from pipeline.augment.mixup import mixup, shares
from pipeline.stage import StageError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# area, aspect, top, left, flip, angle, brightness, contrast, saturation, erase or not and its four, cutout's two
DRAWS = 16


@dataclasses.dataclass(frozen=True)
class Images:
    """A split as it lies on disk: pixels (N, S, S, C) uint8, memory-mapped, and labels (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Format:
    """How a network wants its images: side in pixels, and a mean and deviation (of 0..1) for each channel it takes."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        return len(self.mean)


class Batch(NamedTuple):
    """Augmented images (N, C, S, S) with labels (N,); of each image only `share` where it was mixed with another."""

    images: Tensor
    labels: Tensor
    others: Tensor  # (N,) labels of the images mixed in
    share: float = 1.0


KEYS = ("crop", "aspect", "shift", "rotate", "jitter", "erase")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What augmentation does to an image: the amplitudes of its pipeline, light or strong, and what all share."""

    format: Format
    flip: bool
    amplitudes: Tensor  # (2, 6): light, strong x KEYS (rotate in degrees, erase a probability)
    strong: Tensor  # (K,) bool: the classes that get the strong pipeline
    used: frozenset[str]  # the KEYS that any class uses; the others are skipped
    cutout: int = 0  # side in pixels
    mixup: float = 0.0  # alpha


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


def rows(images: Images, chosen: slice) -> Images:
    """Some of a split."""
    return Images(images.pixels[chosen], images.labels[chosen])


def read_info(folder: Path) -> dict[str, Any]:
    """What split says of the images in `folder`."""
    try:
        return json.loads((folder / "info.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; run `dvc repro` or `python -m pipeline.split` first") from None


def format_for(size: int, normalise: str, pixels: dict[str, list[float]], channels: int) -> Format:
    """The format for a network that takes `channels` (1 or 3); `pixels` are the training images' `mean` and `std`.

    `normalise` "imagenet" takes ImageNet's statistics, "dataset" the training images' own. A grey image is repeated
    for a network of three channels, a coloured one becomes its luma for a network of one.
    """
    statistics = []
    for key in ("mean", "std"):
        values = tuple(IMAGENET[key] if normalise == "imagenet" else pixels[key])
        if channels == 1 < len(values):
            values = (math.fsum(weight * value for weight, value in zip(LUMA, values, strict=True)),)
        statistics.append(values * channels if len(values) == 1 else values)
    return Format(size, *statistics)


def recipe(
    form: Format, classes: list[str], minority: list[str], augment: dict[str, Any], flip: bool, device: torch.device
) -> Recipe:
    """The augmentation of one model; `augment` as in params.yaml, `flip` false where the data set forbids it."""
    strength = augment["strength"]
    amplitudes = torch.tensor([[augment[name][key] for key in KEYS] for name in ("light", "strong")])
    limits = torch.tensor([0.99, 0.99, 0.99, 180.0, 1.0, 1.0])
    amplitudes = torch.minimum(amplitudes * strength, limits)
    strong = [name in minority and augment["minority"] == "strong" for name in classes]
    pipelines = [index for index, wanted in enumerate((not all(strong), any(strong))) if wanted]
    return Recipe(
        format=form,
        flip=flip and augment["flip"] and strength > 0,
        amplitudes=amplitudes.to(device),
        strong=torch.tensor(strong, device=device),
        used=frozenset(key for key, column in zip(KEYS, amplitudes[pipelines].T, strict=True) if column.any()),
        cutout=round(augment["cutout"] * strength),
        mixup=augment["mixup"] * strength,
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


def steps(images: Images, batch_size: int, processes: int = 1) -> int:
    """Batches of one epoch: a last one of a single image is left out, for it has no variance to normalise by.

    So is one that has not an image for each of several processes.
    """
    count = len(images)
    return max(1, count // batch_size + (count % batch_size >= max(2, processes)))


def train_batches(
    images: Images,
    recipe: Recipe,
    *,
    sampler: str,
    batch_size: int,
    seed: int,
    epoch: int,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """One epoch of augmented batches, on `device`.

    `share` (rank, processes): labels are always those of the whole batch, images only those of this process.
    """
    places = order(images.labels, sampler, seed, epoch)
    draws = draw(len(places), seed, epoch).to(device, non_blocking=True)
    rank, processes = share
    count = steps(images, batch_size, processes)
    mixing = shares(count, recipe.mixup, np.random.default_rng([seed, epoch, 2])) if recipe.mixup else None
    for step in range(count):
        part = slice(step * batch_size, (step + 1) * batch_size)
        labels = images.labels[places[part]].to(device, non_blocking=True)
        first, last = len(labels) * rank // processes, len(labels) * (rank + 1) // processes
        own = torch.arange(first - (mixing is not None and processes > 1), last) % len(labels)
        chosen = slice(None) if processes == 1 else own
        pixels = images.pixels[places[part][chosen]].to(device, non_blocking=True)
        augmented = augment(pixels, draws[part][chosen], recipe.strong[labels[chosen]], recipe)
        if mixing is None:
            yield Batch(augmented, labels, labels)
        else:  # the order is random: an image's neighbour in it is a random partner
            partners = torch.arange(len(augmented), device=device).roll(1)
            mixed = mixup(augmented, partners, mixing[step])[int(processes > 1) :]
            yield Batch(mixed, labels, labels.roll(1), mixing[step])


def test_batches(images: Images, form: Format, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """All images in their order, resized and normalised: (N, C, S, S), on `device`."""
    for start in range(0, len(images), batch_size):
        yield prepare(images.pixels[start : start + batch_size].to(device), form)


def augment(pixels: Tensor, draws: Tensor, strong: Tensor, recipe: Recipe) -> Tensor:
    """pixels (N, H, W, 1 or 3) uint8, draws (N, DRAWS), strong (N,) bool -> (N, C, S, S) normalised."""
    crop, aspect, shift, rotate, jitter, erase = recipe.amplitudes[strong.long()].unbind(1)  # each (N,)
    signed = draws * 2 - 1
    height, width = pixels.shape[1:3]
    size = recipe.format.size
    images = _channels_first(pixels)
    if recipe.flip or recipe.used & {"crop", "aspect", "shift", "rotate"} or (height, width) != (size, size):
        area = 1 - crop * draws[:, 0]
        stretch = torch.exp(signed[:, 1] * torch.log1p(aspect)).sqrt()
        tall = (area.sqrt() * stretch).clamp(max=1) * height
        wide = (area.sqrt() / stretch).clamp(max=1) * width
        images = resized_crop(
            images,
            top=draws[:, 2] * (height - tall) + signed[:, 2] * shift * height,
            left=draws[:, 3] * (width - wide) + signed[:, 3] * shift * width,
            height=tall,
            width=wide,
            size=size,
            angle=signed[:, 5] * rotate if "rotate" in recipe.used else None,
            flip=(draws[:, 4] < 0.5) if recipe.flip else None,
        )
    if "jitter" in recipe.used:
        images = color_jitter(images, *(1 + signed[:, 6:9] * jitter[:, None]).unbind(1))
    images = _normalise(images, recipe.format)
    if "erase" in recipe.used:
        images = random_erase(images, chosen=draws[:, 9] < erase, draws=draws[:, 10:14])
    return cutout(images, recipe.cutout, draws[:, 14:]) if recipe.cutout else images


def prepare(pixels: Tensor, form: Format) -> Tensor:
    """pixels (N, H, W, 1 or 3) uint8 -> (N, C, S, S) normalised, without augmentation."""
    images = _channels_first(pixels)
    if images.shape[-2:] != (form.size, form.size):
        images = torch.nn.functional.interpolate(images, (form.size, form.size), mode="bilinear", align_corners=False)
    return _normalise(images, form)


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).to(torch.float32)


def _normalise(images: Tensor, form: Format) -> Tensor:
    """(N, 1 or 3, H, W) in 0..255 -> (N, C, H, W) of mean 0 and deviation 1, channels last in memory."""
    if form.channels == 1 < images.shape[1]:
        images = grey(images)
    mean = images.new_tensor(form.mean).view(1, -1, 1, 1) * 255
    std = images.new_tensor(form.std).view(1, -1, 1, 1) * 255
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _torch_rng(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 0]).generate_state(1, np.uint64)[0]))
