"""Feeding: images a second of one core, uint8 in and out, against torchvision's transforms in a DataLoader.

Those are of Pillow's images, as timm's loader and torchvision's references have them; each row says, too, what the same
transforms make of tensors.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.bench import Row, compare, few, rate
from pipeline.images import packed
from pipeline.images.batches import order
from pipeline.images.form import Format
from pipeline.images.recipe import Recipe
from pipeline.images.recipe import recipe as recipe_recipe
from pipeline.images.transform import draw
from pipeline.images.transform import transform as transform_transform
from pipeline.inference.device import keep_freed_memory

NONE = {"crop": 0.0, "aspect": 0.0, "shift": 0.0, "rotate": 0, "jitter": 0.0, "erase": 0.0}
CASES = {  # what -> our amplitudes, the peer's transforms, side, target
    "crop of a padded image and flip, 32 px": (
        {"shift": 0.125},
        [v2.RandomCrop(32, padding=4, padding_mode="edge"), v2.RandomHorizontalFlip()],
        32,
        ">= 40",
    ),
    "the same with colour jitter": (
        {"shift": 0.125, "jitter": 0.4},
        [
            v2.RandomCrop(32, padding=4, padding_mode="edge"),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ],
        32,
        ">= 15",
    ),
    "resized crop and flip, 224 px": (
        {"crop": 0.9, "aspect": 0.25},
        [v2.RandomResizedCrop(224, scale=(0.1, 1.0), antialias=False), v2.RandomHorizontalFlip()],
        224,
        ">= 10",
    ),
}


class Pictures(Dataset):
    def __init__(self, images: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index])


def recipe_for(side: int, channels: int, amplitudes: dict[str, float], classes: int = 1, device: str = "cpu") -> Recipe:
    """Our augmentation by these amplitudes, and a flip of coloured images."""
    augment = {
        "strength": 1.0,
        "flip": channels == 3,
        "minority": "light",
        "cutout": 0,
        "mixup": 0.0,
        "policy": "none",
        "pca": 0.0,
        "light": {**NONE, **amplitudes},
        "strong": NONE,
    }
    form = Format(side, (0.5,) * channels, (0.25,) * channels)
    return recipe_recipe(form, [str(label) for label in range(classes)], [], augment, True, torch.device(device))


def loaded(images: Sequence[Any], transforms: list[Any]) -> Callable[[], int]:
    """A pass over all images by torch's loader, which returns how many they were."""
    batches = DataLoader(Pictures(images, v2.Compose(transforms)), 128, shuffle=True)
    return lambda: sum(map(len, batches))


def augmented(images: packed.Images, recipe: Recipe) -> Callable[[], int]:
    """The same by ours."""

    def work() -> int:
        rows, draws = order(images.labels, "shuffle", 0, 0), draw(len(images), 0, 0, recipe.draws)
        for part in torch.arange(len(images)).split(128):
            taken = images.pixels.index_select(0, rows[part])
            strong = torch.zeros(len(part), dtype=torch.bool)
            transform_transform(taken, draws[part], strong, recipe).to(torch.uint8)
        return len(images)

    return work


def rows() -> Iterator[Row]:
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for what, (amplitudes, transforms, side, target) in CASES.items():
        count = few(4096, 128) if side == 32 else few(256, 64)
        pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        images = packed.Images(torch.from_numpy(pixels), torch.zeros(count, dtype=torch.int64))
        ours = partial(rate, augmented(images, recipe_for(side, 3, amplitudes)))
        peer = partial(rate, loaded([Image.fromarray(image) for image in pixels], [*transforms, v2.PILToTensor()]))
        tensors = rate(loaded(images.pixels.permute(0, 3, 1, 2).unbind(), transforms))
        note = f"torchvision's of tensors that lie decoded in memory: {tensors:,.0f} images/s"
        yield compare(f"feeding: {what}", "images/s", ours, peer, target, note=note)
    torch.set_num_threads(threads)
