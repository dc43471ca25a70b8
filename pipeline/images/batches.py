"""Batches of augmented images from packed ones, a whole batch at a time, on the device where the network is.

Every image draws its own augmentation parameters from a generator keyed by (seed, epoch), one row for each place in the
epoch's order: the batch size changes nothing, and an image that is sampled twice looks different twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.images.augment.mixup import mixup, shares
from pipeline.images.form import Format
from pipeline.images.packed import Images
from pipeline.images.recipe import Recipe
from pipeline.images.transform import augment, draw

CACHE = 1 << 21  # bytes of augmented images, in float32


class Batch(NamedTuple):
    """Augmented images (N, C, S, S) with labels (N,); of each image only `share` where it was mixed with another.

    `targets`, and `others` of the images mixed in, are labels (N,) or shares (N, K). `rows` (N,) says which images.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    others: Tensor
    share: float = 1.0
    rows: Tensor | None = None


def order(labels: Tensor, sampler: str, seed: int, epoch: int) -> Tensor:
    """The images of one epoch: a shuffle, or draws with replacement by inverse class frequency. Returns (N,) rows."""
    rng = _torch_rng(seed, epoch)
    if sampler == "shuffle":
        return torch.randperm(len(labels), generator=rng)
    weights = 1.0 / torch.bincount(labels)[labels].double()  # as torch's WeightedRandomSampler draws
    return torch.multinomial(weights, len(labels), replacement=True, generator=rng)


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
    feed = _Epoch(images, recipe, batch_size, *_ordered(images, recipe, sampler, seed, epoch, device))
    count = steps(images, batch_size, share[1])
    mixing = shares(count, recipe.mixup, np.random.default_rng([seed, epoch, 2])) if recipe.mixup else None
    alone = share[1] == 1
    augmented = feed.batches(count) if alone else feed.parts(count, *share, neighbour=mixing is not None)
    for step, inputs in enumerate(augmented):
        labels, targets = feed.labelled(step)
        if mixing is None:
            yield Batch(inputs, labels, targets, targets, rows=feed.rows(step))
        else:  # the order is random: an image's neighbour in it is a random partner
            partners = torch.arange(len(inputs), device=device).roll(1)
            mixed = mixup(inputs, partners, mixing[step])[int(not alone) :]
            yield Batch(mixed, labels, targets, targets.roll(1, 0), mixing[step], feed.rows(step))


def _ordered(
    images: Images, recipe: Recipe, sampler: str, seed: int, epoch: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """An epoch's order: rows of the images (N,), and on `device` their labels (N,) and draws (N, recipe.draws)."""
    places = order(images.labels, sampler, seed, epoch)
    labels = images.labels[places].to(device, non_blocking=True)
    return places, labels, draw(len(places), seed, epoch, recipe.draws).to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch's images in its order: where they lie, their labels, their draws."""

    images: Images
    recipe: Recipe
    batch_size: int
    places: Tensor  # (N,) rows of `images`
    labels: Tensor  # (N,), on the device
    draws: Tensor  # (N, D), on the device

    def rows(self, step: int) -> Tensor:
        """Where the images of a whole batch lie."""
        return self.places[step * self.batch_size : (step + 1) * self.batch_size]

    def labelled(self, step: int) -> tuple[Tensor, Tensor]:
        """Labels and targets of a whole batch."""
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        labels = self.labels[part]
        if self.images.shares is None:
            return labels, labels
        return labels, self.images.targets(self.places[part]).to(labels.device, non_blocking=True)

    def augmented(self, taken: slice | Tensor) -> Tensor:
        """Images at these places of the epoch's order."""
        rows = self.places[taken].to(self.images.pixels.device)
        pixels = self.images.pixels.index_select(0, rows).to(self.labels.device, non_blocking=True)
        return augment(pixels, self.draws[taken], self.recipe.strong[self.labels[taken]], self.recipe)

    def batches(self, count: int) -> Iterator[Tensor]:
        """Whole batches; on a CPU small ones are augmented several at once."""
        size = self.batch_size
        together = at_once(self.recipe.format, size) if self.labels.device.type == "cpu" else 1
        for first in range(0, count, together):
            last = min(first + together, count)
            yield from self.augmented(slice(first * size, last * size)).split(size)

    def parts(self, count: int, rank: int, processes: int, neighbour: bool) -> Iterator[Tensor]:
        """One process's part of each batch; if `neighbour`, led by the image before it."""
        for step in range(count):
            start = step * self.batch_size
            size = min(self.batch_size, len(self.places) - start)
            first, last = size * rank // processes, size * (rank + 1) // processes
            yield self.augmented(start + torch.arange(first - neighbour, last) % size)


def at_once(form: Format, batch_size: int) -> int:
    """Batches that are augmented together: of small images several fit into a core's cache, and calls are saved."""
    return max(1, CACHE // (batch_size * form.channels * form.size**2 * 4))


def _torch_rng(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 0]).generate_state(1, np.uint64)[0]))
