"""From packed pixels to what a network sees: format, views, normalisation.

Shapes: N images, C channels, S the side that split packed, V views.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.images.luma import LUMA, grey
from pipeline.images.packed import Images

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


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


def evaluation_batches(images: Images, form: Format, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """All images in their order, resized and normalised: (N, C, S, S), on `device`; of crops the one at the centre."""
    for start in range(0, len(images), batch_size):
        yield prepare(images.pixels[start : start + batch_size].to(device), form)


def view_batches(images: Images, form: Format, batch_size: int, device: torch.device) -> Iterator[list[Tensor]]:
    """All images in their order, each batch as its views."""
    for start in range(0, len(images), batch_size):
        yield views(images.pixels[start : start + batch_size].to(device), form)


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
