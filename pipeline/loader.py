"""Packed images -> augmented batches, a whole batch at a time, on the device where the model is.

Every image draws its own augmentation parameters from a generator keyed by (seed, epoch), one row for each place in the
epoch's order: the batch size changes nothing, and an image that is sampled twice looks different twice.
"""

import contextlib
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline import registry
from pipeline.augment.crop import LARGE, resized_crop
from pipeline.augment.erase import random_erase
from pipeline.augment.jitter import LUMA, color_jitter, grey
from pipeline.augment.mixup import mixup, shares
from pipeline.augment.pca import axes, pca_jitter
from pipeline.augment.window import window
from pipeline.stage import StageError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# area, aspect, top, left, flip, angle, brightness, contrast, saturation, erase or not and its four, cutout's two
DRAWS, CUTOUT = 16, 14
CACHE = 1 << 21  # bytes of augmented images, in float32
MORE = 8  # from a generator of their own, where they are used: the policy's five, PCA jitter's three


@dataclasses.dataclass(frozen=True)
class Images:
    """A split as it lies on disk: pixels (N, S, S, C) uint8, memory-mapped, and labels (N,).

    `shares` (N, K): of the people who voted on an image, those who saw each class; None: labels are all there is.
    """

    pixels: Tensor
    labels: Tensor
    shares: Tensor | None = None

    def targets(self, rows: Tensor) -> Tensor:
        """What a network is to answer on some images: labels (M,), or shares (M, K)."""
        return self.labels[rows] if self.shares is None else self.shares[rows]

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Format:
    """How a network wants its images: side in pixels, and a mean and deviation (of 0..1) for each channel it takes.

    With `crop` it is shown squares of that many pixels: random ones in training, `views` of them in testing.
    """

    whole: int  # the side that images are brought to
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: int = 0
    views: int = 1  # 1: the centre; 2: and its mirror image; 5: the centre and the corners; 10: and their mirror images

    @property
    def size(self) -> int:
        """The side of what the network takes."""
        return self.crop or self.whole

    @property
    def channels(self) -> int:
        return len(self.mean)


class Batch(NamedTuple):
    """Augmented images (N, C, S, S) with labels (N,); of each image only `share` where it was mixed with another.

    `targets`, and `others` of the images mixed in, are labels (N,) or shares (N, K).
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    others: Tensor
    share: float = 1.0


class Technique(NamedTuple):
    """An augmentation of the registry: what it makes of normalised images, how much of it, and the draws it takes."""

    change: Callable[[Tensor, float, Tensor], Tensor]  # images (N, C, S, S), amount, draws (N, D) -> (N, C, S, S)
    amount: float
    columns: slice  # of the draws


KEYS = ("crop", "aspect", "shift", "rotate", "jitter", "erase")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What augmentation does to an image: the amplitudes of its pipeline, light or strong, and what all share."""

    format: Format
    flip: bool
    amplitudes: Tensor  # (2, 6): light, strong x KEYS (rotate in degrees, erase a probability)
    strong: Tensor  # (K,) bool: the classes that get the strong pipeline
    used: frozenset[str]  # the KEYS that any class uses; the others are skipped
    techniques: tuple[Technique, ...] = ()  # one after the other
    mixup: float = 0.0  # alpha
    policy: str = "none"
    pca: float = 0.0  # deviation
    axes: Tensor | None = None  # (C, C) of colours, for `pca`

    @property
    def draws(self) -> int:
        last = max((technique.columns.stop for technique in self.techniques), default=0)
        return max(last, DRAWS + MORE if self.pca or self.policy != "none" else DRAWS)


def read(folder: Path, prefix: str = "") -> Images:
    """Open a packed split, `folder/[prefix]images.npy` and its labels."""
    with _as_packed(folder):
        pixels = np.load(folder / f"{prefix}images.npy", mmap_mode="c")  # private pages: torch wants them writable
        labels = np.load(folder / f"{prefix}labels.npy")
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def with_votes(images: Images, folder: Path) -> Images:
    """Training images with the shares of FER+'s votes; the label of an image without a vote has them all."""
    try:
        votes = torch.from_numpy(np.load(folder / "train_votes.npy")).float()  # (N, K)
    except FileNotFoundError:
        raise StageError(
            "params.yaml: train.targets: votes: this source has none; FER2013 has them with FER+'s fer2013new.csv"
            " beside its table (dataset.source: a folder with both)"
        ) from None
    given = votes.sum(1, keepdim=True)
    alone = F.one_hot(images.labels, votes.shape[1]).float()
    return dataclasses.replace(images, shares=torch.where(given > 0, votes / given.clamp(min=1), alone))


def resident(images: Images, device: torch.device) -> Images:
    """The same split with its pixels in GPU memory, if they take less than a quarter of what is free there."""
    if device.type == "cuda" and images.pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
        return dataclasses.replace(images, pixels=images.pixels.to(device))
    return images


def joined(first: Images, second: Images) -> Images:
    """Two splits as one, in memory, the first's images first; labels are their targets."""
    return Images(torch.cat([first.pixels, second.pixels]), torch.cat([first.labels, second.labels]))


def rows(images: Images, chosen: slice | Tensor) -> Images:
    """Some of a split."""
    shares = images.shares[chosen] if images.shares is not None else None
    return Images(images.pixels[chosen], images.labels[chosen], shares)


def read_info(folder: Path) -> dict[str, Any]:
    """What split says of the images in `folder`."""
    with _as_packed(folder):
        info = dict(json.loads((folder / "info.json").read_text(encoding="utf-8")))
        if not {"classes", "digest"} <= info.keys():
            raise ValueError(folder)
        return info


@contextlib.contextmanager
def _as_packed(folder: Path) -> Iterator[None]:
    """Turn what files raise that are missing, or not as split packed them, into a StageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; run `dvc repro` or `python -m pipeline.split` first") from None
    except (ValueError, TypeError, EOFError):
        raise StageError(f"{folder}: damaged; run `dvc checkout --force {folder}` or `dvc repro -f split`") from None


def sides(image_size: int, augment: Mapping[str, Any]) -> tuple[int, int]:
    """The side that images are brought to, and that of the crop which a network sees of them (0: the whole).

    `augment` as in params.yaml, or of a network that an earlier version trained.
    """
    crop = augment.get("crop_size", 0)
    return (augment.get("crop_of") if crop else 0) or image_size, crop


def format_for(
    size: int, normalise: str, pixels: dict[str, list[float]], channels: int, crop: int = 0, views: int = 1
) -> Format:
    """The format for a network that takes `channels` (1 or 3); `pixels` are the training images' `mean` and `std`.

    `normalise` "imagenet" takes ImageNet's statistics, "dataset" the training images' own. A grey image is repeated
    for a network of three channels, a coloured one becomes its luma for a network of one. A channel that deviates by
    less than one of 255 steps over all training images is not scaled: it says nothing, and would be divided by nothing.
    """
    statistics = []
    for key in ("mean", "std"):
        values = tuple(IMAGENET[key] if normalise == "imagenet" else pixels[key])
        if channels == 1 < len(values):
            values = (math.fsum(weight * value for weight, value in zip(LUMA, values, strict=True)),)
        statistics.append(values * channels if len(values) == 1 else values)
    mean, std = statistics
    return Format(size, mean, tuple(value if value >= 1 / 255 else 1.0 for value in std), crop, views)


def recipe(
    form: Format,
    classes: list[str],
    minority: list[str],
    augment: dict[str, Any],
    flip: bool,
    device: torch.device,
    covariance: list[list[float]] | None = None,
) -> Recipe:
    """The augmentation of one model; `augment` as in params.yaml, `flip` false where the data set forbids it.

    `covariance` is that of the training images' channels, which PCA jitter needs.
    """
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
        techniques=techniques(augment, strength),
        mixup=augment["mixup"] * strength,
        policy=augment.get("policy", "none") if strength else "none",
        pca=augment.get("pca", 0.0) * strength,
        axes=axes(covariance).to(device) if covariance else None,
    )


def techniques(augment: dict[str, Any], strength: float) -> tuple[Technique, ...]:
    """Those of the registry that are on, each with draws of its own."""
    found, place = [], DRAWS + MORE
    for name in registry.AUGMENTATIONS:
        if amount := augment.get(name, 0) * strength:
            module = registry.load("augment", name)
            first = CUTOUT if name == "cutout" else place
            found.append(Technique(getattr(module, name), amount, slice(first, first + module.DRAWS)))
            place = max(place, first + module.DRAWS)
    return tuple(found)


def order(labels: Tensor, sampler: str, seed: int, epoch: int) -> Tensor:
    """The images of one epoch: a shuffle, or draws with replacement by inverse class frequency. Returns (N,) rows."""
    rng = _torch_rng(seed, epoch)
    if sampler == "shuffle":
        return torch.randperm(len(labels), generator=rng)
    weights = 1.0 / torch.bincount(labels)[labels].double()  # as torch's WeightedRandomSampler draws
    return torch.multinomial(weights, len(labels), replacement=True, generator=rng)


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
    ordered = images.labels[places].to(device, non_blocking=True)
    draws = draw(len(places), seed, epoch, recipe.draws).to(device, non_blocking=True)
    rank, processes = share
    count = steps(images, batch_size, processes)
    mixing = shares(count, recipe.mixup, np.random.default_rng([seed, epoch, 2])) if recipe.mixup else None

    def augmented_at(taken: slice | Tensor) -> Tensor:
        """Images at these places of the epoch's order."""
        pixels = images.pixels.index_select(0, places[taken].to(images.pixels.device)).to(device, non_blocking=True)
        return augment(pixels, draws[taken], recipe.strong[ordered[taken]], recipe)

    together = at_once(recipe.format, batch_size) if device.type == "cpu" and processes == 1 else 1
    block = torch.empty(0)
    for step in range(count):
        part = slice(step * batch_size, (step + 1) * batch_size)
        labels = ordered[part]
        targets = labels if images.shares is None else images.targets(places[part]).to(device, non_blocking=True)
        if processes == 1:
            place = step % together
            if not place:
                block = augmented_at(slice(step * batch_size, min(step + together, count) * batch_size))
            augmented = block[place * batch_size : (place + 1) * batch_size]
        else:
            first, last = len(labels) * rank // processes, len(labels) * (rank + 1) // processes
            own = torch.arange(first - (mixing is not None), last) % len(labels)
            augmented = augmented_at(step * batch_size + own)
        if mixing is None:
            yield Batch(augmented, labels, targets, targets)
        else:  # the order is random: an image's neighbour in it is a random partner
            partners = torch.arange(len(augmented), device=device).roll(1)
            mixed = mixup(augmented, partners, mixing[step])[int(processes > 1) :]
            yield Batch(mixed, labels, targets, targets.roll(1, 0), mixing[step])


def at_once(form: Format, batch_size: int) -> int:
    """Batches that are augmented together: of small images several fit into a core's cache, and calls are saved."""
    return max(1, CACHE // (batch_size * form.channels * form.size**2 * 4))


def varies(recipe: Recipe) -> bool:
    """Whether augmentation makes something else of an image in every epoch."""
    drawn = (recipe.flip, recipe.used, recipe.techniques, recipe.mixup, recipe.pca, recipe.policy != "none")
    return any(drawn) or bool(recipe.format.crop)


def test_batches(images: Images, form: Format, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """All images in their order, resized and normalised: (N, C, S, S), on `device`; of crops the one at the centre."""
    for start in range(0, len(images), batch_size):
        yield prepare(images.pixels[start : start + batch_size].to(device), form)


def view_batches(images: Images, form: Format, batch_size: int, device: torch.device) -> Iterator[list[Tensor]]:
    """All images in their order, each batch as its views."""
    for start in range(0, len(images), batch_size):
        yield views(images.pixels[start : start + batch_size].to(device), form)


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
    crop, aspect, shift, rotate, jitter, _ = recipe.amplitudes[strong.long()].unbind(1)  # each (N,)
    signed = draws * 2 - 1
    if recipe.policy != "none":
        from pipeline.augment.policy import auto_augment  # late: torchvision takes a second to import

        changed = auto_augment(pixels.permute(0, 3, 1, 2), recipe.policy, draws[:, DRAWS : DRAWS + 5])
        pixels = changed.permute(0, 2, 3, 1)
    height, width = pixels.shape[1:3]
    size, whole = recipe.format.size, recipe.format.whole
    down, right = signed[:, 2] * shift * height, signed[:, 3] * shift * width
    flip = draws[:, 4] < 0.5 if recipe.flip else None
    places = (
        (draws[:, 2:4] * (whole - size + 1)).floor().clamp(max=whole - size)
    )  # (N, 2) of the square that is taken of a resized image
    if recipe.used & {"crop", "aspect", "rotate"} or (height, width) != (whole, whole):
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
        images = resized_crop(pixels.permute(0, 3, 1, 2), top, left, tall, wide, size, angle, flip)
    else:
        if "shift" in recipe.used or flip is not None or size < whole:
            pixels = window(pixels, down.round() + places[:, 0], right.round() + places[:, 1], size, flip)
        images = pixels.permute(0, 3, 1, 2)
    if "jitter" in recipe.used:
        images = color_jitter(images, *(1 + signed[:, 6:9] * jitter[:, None]).unbind(1))
    if recipe.pca and recipe.axes is not None:
        channels = len(recipe.axes)
        images = pca_jitter(images.float(), recipe.axes, recipe.pca, draws[:, DRAWS + 5 : DRAWS + 5 + channels])
    return images


def prepare(pixels: Tensor, form: Format) -> Tensor:
    """pixels (N, H, W, 1 or 3) uint8 -> (N, C, S, S) normalised, without augmentation; of crops the centre."""
    return next(_views(pixels, form))


def views(pixels: Tensor, form: Format) -> list[Tensor]:
    """pixels (N, H, W, 1 or 3) uint8 -> what a network sees of them: `form.views` tensors (N, C, S, S)."""
    return list(itertools.islice(_views(pixels, form), form.views))


def _views(pixels: Tensor, form: Format) -> Iterator[Tensor]:
    """The centre, the corners unless one or two views are wanted, and the mirror images of these.

    Ten of them are torchvision's `ten_crop`, the centre first.
    """
    images = pixels.permute(0, 3, 1, 2)
    if images.shape[-2:] != (form.whole, form.whole):
        images = F.interpolate(images.float(), (form.whole, form.whole), mode="bilinear", align_corners=False)
    images = normalise(images, form)
    last = form.whole - form.size
    middle = round(last / 2)
    places = [(middle, middle), (0, 0), (0, last), (last, 0), (last, last)][: 5 if form.views > 2 else 1]
    for mirrored in (images, images.flip(-1)):
        for top, left in places:
            view = mirrored[..., top : top + form.size, left : left + form.size]
            yield view.contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor, form: Format) -> Tensor:
    """(N, 1 or 3, H, W) in 0..255 -> (N, C, H, W) of mean 0 and deviation 1, channels last in memory."""
    if form.channels == 1 < images.shape[1]:
        images = grey(images.float())
    images = images.expand(-1, form.channels, -1, -1)
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count * height, width * channels)  # one run of memory each: fast
    scale = 1 / (255 * torch.tensor(form.std, device=rows.device)).repeat(width)
    offset = -255 * torch.tensor(form.mean, device=rows.device).repeat(width) * scale
    return torch.addcmul(offset, rows.float(), scale).view(count, height, width, channels).permute(0, 3, 1, 2)


def _torch_rng(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 0]).generate_state(1, np.uint64)[0]))
