"""What of a pretrained network is trained, and when: all, the head, or the head first and then all.

A frozen part is as in evaluation: its weights and BatchNorm statistics stand, its dropout and drop path are off. Where
augmentation changes nothing from epoch to epoch, what it makes of the images, the head's input, is computed once.

Legend: N images, D features, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import networks
from pipeline.images import form, packed, transform
from pipeline.images.batches import Batch, order, steps, train_batches
from pipeline.images.recipe import Recipe, varies
from pipeline.training import distributed


class Tuning:
    """The part of `network` that an epoch trains, by `protocol` (the keys of `train` in params.yaml)."""

    def __init__(
        self,
        network: nn.Module,
        protocol: dict[str, Any],
        recipe: Recipe,
        images: tuple[packed.Images, packed.Images | None],
        device: torch.device,
        autocast: Callable[[], Any],
        reuse: bool = True,
    ) -> None:
        """`images` are training and validation images, if any; without `reuse` features are computed at every step."""
        self.network, self.recipe, self.images, self.device = network, recipe, images, device
        self.mode, self.epochs = protocol["tune"], protocol["head_epochs"]
        self.factor, self.batch_size = protocol["full_lr_factor"], protocol["batch_size"]
        self.autocast = autocast
        self.reuse = reuse and not varies(recipe) and recipe.format.views == 1  # of views each has its features
        self.head = networks.head(network) if self.mode != "full" else network
        self.features: tuple[Tensor, Tensor | None] | None = None

    def frozen(self, epoch: int) -> bool:
        """Whether epoch 0, 1, ... trains the head alone."""
        return self.mode == "head" or (self.mode == "head_then_full" and epoch < self.epochs)

    def begin(self, epoch: int) -> nn.Module:
        """Set modes and gradients for an epoch; returns what is called on its batches: the network, or its head."""
        frozen = self.frozen(epoch)
        self.network.train(not frozen)
        self.head.train()
        if self.mode != "full":
            self.network.requires_grad_(not frozen)
            self.head.requires_grad_(True)
        if not (frozen and self.reuse):
            self.features = None
            return self.network
        if self.features is None:
            train, val = self.images
            self.network.eval()
            self.features = (
                self._features(as_trained(train, self.recipe, self.batch_size, self.device), self.autocast),
                None
                if val is None
                else self._features(
                    form.evaluation_batches(val, self.recipe.format, self.batch_size, self.device), torch.no_grad
                ),
            )
            self.head.train()
        return _Flat(self.head)

    def rate(self, rate: float, epoch: int) -> float:
        return rate * self.factor if self.mode == "head_then_full" and not self.frozen(epoch) else rate

    def batches(self, sampler: str, seed: int, epoch: int) -> Iterator[Batch]:
        """An epoch's batches: of images, or of their features in the same order."""
        train = self.images[0]
        choice: dict[str, Any] = {"sampler": sampler, "seed": seed, "epoch": epoch, "batch_size": self.batch_size}
        if self.features is None:
            share = (distributed.rank(), distributed.world())
            yield from train_batches(train, self.recipe, device=self.device, share=share, **choice)
            return
        rows = order(train.labels, sampler, seed, epoch)
        for step in range(steps(train, self.batch_size)):
            part = rows[step * self.batch_size : (step + 1) * self.batch_size]
            labels, targets = train.labels[part].to(self.device), train.targets(part).to(self.device)
            yield Batch(self.features[0][part.to(self.device)], labels, targets, targets)

    def val_logits(self) -> Tensor | None:
        """Validation logits (N, K) in float32 from the features; None where there are none to reuse."""
        features = self.features[1] if self.features is not None else None
        if features is None:
            return None
        self.head.eval()
        with torch.inference_mode():
            logits = torch.cat([_Flat(self.head)(part).float() for part in features.split(self.batch_size)])
        return logits.cpu()

    def _features(self, batches: Iterator[Tensor], context: Callable[[], Any]) -> Tensor:
        """What goes into the head, (N, D) or (N, D, 1, 1), of all batches."""
        found: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
        with torch.no_grad(), context():
            for batch in batches:
                self.network(batch)
        hook.remove()
        return torch.cat(found)


def as_trained(images: packed.Images, recipe: Recipe, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Training images in their order, through the same code as an epoch's; of a recipe that does not vary."""
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        labels = images.labels[part].to(device)
        draws = torch.zeros(len(labels), recipe.draws, device=device)
        pixels = images.pixels[part].to(device)
        yield transform.augment(pixels, draws, recipe.strong[labels], recipe)


class _Flat(nn.Module):
    """A head alone; one that is a 1x1 convolution gives logits (N, K, 1, 1)."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features).flatten(1)
