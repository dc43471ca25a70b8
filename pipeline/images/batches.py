"""Packed images -> augmented batches, a whole batch at a time, on the device where the model is.

Every image draws its own augmentation parameters from a generator keyed by (seed, epoch), one row for each place in the
epoch's order: the batch size changes nothing, and an image that is sampled twice looks different twice.
"""

from collections.abc import Iterator
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

    `targets`, and `others` of the images mixed in, are labels (N,) or shares (N, K).
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    others: Tensor
    share: float = 1.0


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


def _torch_rng(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 0]).generate_state(1, np.uint64)[0]))
