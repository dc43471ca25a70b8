"""What training does to an image, from the settings of `augment`: which techniques, how strong, how many draws."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.images.augment.pca import axes
from pipeline.images.form import Format
from pipeline.params import registry

# area, aspect, top, left, flip, angle, brightness, contrast, saturation, erase or not and its four, cutout's two
DRAWS, CUTOUT = 16, 14
MORE = 8  # from a generator of their own, where they are used: the policy's five, PCA jitter's three


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
            module = registry.load("images.augment", name)
            first = CUTOUT if name == "cutout" else place
            found.append(Technique(getattr(module, name), amount, slice(first, first + module.DRAWS)))
            place = max(place, first + module.DRAWS)
    return tuple(found)


def varies(recipe: Recipe) -> bool:
    """Whether augmentation makes something else of an image in every epoch."""
    drawn = (recipe.flip, recipe.used, recipe.techniques, recipe.mixup, recipe.pca, recipe.policy != "none")
    return any(drawn) or bool(recipe.format.crop)
