"""One optimizer step, and what it is made of: optimizer, loss, and where a loss that diverged is noticed."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.images import batches, packed
from pipeline.images.recipe import Recipe
from pipeline.params import registry
from pipeline.training import distributed
from pipeline.training.features import Extras
from pipeline.training.losses.weights import inverse_frequency, weighted_mean
from pipeline.training.optim.sam import at_worst_neighbour
from pipeline.training.record import DivergedError
from pipeline.training.teachers import Teachers

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """One step of training: forward, loss, backward, clip, update; twice to the gradient with SAM."""

    def __init__(
        self,
        network: nn.Module,
        loss_of: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        protocol: dict[str, Any],
        classes: int,
        teachers: Teachers | None = None,
    ) -> None:
        self.network, self.optimizer, self.teachers, self.device = network, optimizer, teachers, device
        self.extras = Extras(network, protocol, classes) if Extras.wanted(protocol) else None
        self.loss_of = self.extras.around(loss_of) if self.extras else loss_of
        self.clip_norm, self.rho, self.fast = protocol["clip_norm"], protocol["sam"], protocol["fast"]
        dtype = PRECISIONS[protocol["precision"]]
        self.autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self, batch: batches.Batch, rate: float, step: int = 0) -> tuple[Tensor, Tensor]:
        """Returns the loss and the number of right answers on the augmented images, both on the device.

        `step` is its number, from the training's first: a margin's weight depends on it.
        """
        if self.extras:
            self.extras.step = step
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        soft = self._soft_labels(batch)
        loss, logits = self._backward(batch, soft)
        if self.extras:
            self.extras.update(batch.labels)
        if self.rho:
            with at_worst_neighbour(self.network, self.rho):
                self._backward(batch, soft)
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()

    def prepare(self, images: packed.Images, recipe: Recipe, batch_size: int) -> None:
        """Have the teachers label the training images once, where every epoch shows the same."""
        if self.teachers is not None and self.teachers.once is None:
            with self.autocast:
                self.teachers.look(images, recipe, batch_size, self.device)

    def _soft_labels(self, batch: batches.Batch) -> Tensor | None:
        """What the teachers answer (N, K), once a step; None where there are none."""
        if self.teachers is None:
            return None
        with self.autocast:
            return self.teachers.labels(batch)

    def _backward(self, batch: batches.Batch, soft: Tensor | None) -> tuple[Tensor, Tensor]:
        with self.autocast:
            logits = self.network(batch.images if self.fast else batch.images.contiguous())
        logits = distributed.gathered(logits.float(), len(batch.labels))
        loss = self.loss_of(logits, batch.targets)
        if batch.share < 1:
            loss = batch.share * loss + (1 - batch.share) * self.loss_of(logits, batch.others)
        if self.teachers is not None and soft is not None:
            loss = self.teachers.beside(loss, logits, soft)
        self.scaler.scale(loss).backward()
        distributed.sum_gradients(self.network)
        return loss, logits


def make_optimizer(network: nn.Module, protocol: dict[str, Any], device: torch.device) -> torch.optim.Optimizer:
    """The optimiser that the protocol names, told as much of what is known here as it asks for."""
    name = protocol["optimizer"]
    optimizer = registry.load("training.optim", name).optimizer
    known = {
        "lr": protocol["lr"],
        "weight_decay": protocol["weight_decay"],
        "fused": protocol["fast"] and device.type in ("cpu", "cuda"),
    }
    asked = {key: value for key, value in known.items() if key in inspect.signature(optimizer).parameters}
    return optimizer(network.parameters(), **asked, **own_settings(optimizer, name, protocol))


def make_loss(
    labels: Tensor, protocol: dict[str, Any], classes: int, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits (N, K), targets (N,) or (N, K)) -> scalar, with the weights that the training labels (M,) give."""
    weight = inverse_frequency(labels, classes).to(device) if protocol["class_weights"] == "inverse" else None
    name, smoothing = protocol["loss"], protocol["label_smoothing"]
    if name == "cross_entropy":  # torch's own does in one call what follows
        return lambda logits, targets: F.cross_entropy(logits, targets, weight, label_smoothing=smoothing)
    losses = registry.load("training.losses", name).losses
    settings = own_settings(losses, name, protocol)
    return lambda logits, targets: weighted_mean(losses(logits, **settings), targets, weight, smoothing)


def own_settings(part: Callable[..., Any], name: str, protocol: dict[str, Any]) -> dict[str, Any]:
    """Settings of a loss or an optimiser: focal's argument `gamma` is the key `focal_gamma` of `train`, if there is."""
    keys = {argument: f"{name}_{argument}" for argument in inspect.signature(part).parameters}
    return {argument: protocol[key] for argument, key in keys.items() if key in protocol}


def check_finite(losses: Tensor, epoch: int) -> None:
    """losses (steps,) of one epoch; raises StageError naming the first step whose loss is not finite."""
    bad = torch.nonzero(~torch.isfinite(losses))
    if len(bad):
        step = int(bad[0]) + 1
        raise DivergedError(f"the loss is {losses[step - 1].item()} at epoch {epoch}, step {step}", epoch)
