"""The training loop: one model, one seed, the checkpoint that validation chooses.

Scores are computed in float32 whatever the precision of training; losses and predictions stay on the device until the
epoch is over.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.images import packed
from pipeline.images.batches import Batch, steps
from pipeline.images.recipe import Recipe
from pipeline.inference.device import memory_remedy
from pipeline.inference.forward import predict
from pipeline.records.diary import Epoch
from pipeline.scoring import metrics
from pipeline.training import distributed, tuning
from pipeline.training.compiled import compile_remedy, compiled_by, placed
from pipeline.training.meter import Meter
from pipeline.training.optim.average import Average
from pipeline.training.optim.schedule import learning_rate
from pipeline.training.record import DivergedError, Fit, Keeper
from pipeline.training.step import Step, check_finite, make_loss, make_optimizer
from pipeline.training.teachers import Teachers


class Trainer:
    """Trains `network` by `protocol` (the keys of `train` in params.yaml), its precision settled.

    Selects the weights that `select` names: those of the epoch with the highest validation macro-F1, the earliest of
    equals; of the last epoch; or the average. The latter two do without validation images.
    """

    def __init__(
        self,
        network: nn.Module,
        train: packed.Images,
        val: packed.Images | None,
        recipe: Recipe,
        protocol: dict[str, Any],
        *,
        classes: int,
        seed: int,
        device: torch.device,
        teachers: Sequence[nn.Module] = (),
    ) -> None:
        self.started, self.meter = time.perf_counter(), Meter(device)
        self.protocol, self.classes, self.seed, self.device = protocol, classes, seed, device
        self.format = recipe.format
        self.remedy = f"halve train.batch_size (now {protocol['batch_size']}) or choose a smaller dataset.image_size"
        with memory_remedy(self.remedy):
            self.network = placed(network, device, protocol["fast"])
            self.train = packed.resident(train, device)
            self.val = packed.resident(val, device) if val is not None else None
            taught = Teachers(teachers, protocol, device) if teachers else None
        self.optimizer = make_optimizer(self.network, protocol, device)
        loss_of = make_loss(self.train.labels, protocol, classes, device)
        self.step = Step(self.network, loss_of, self.optimizer, device, protocol, classes, taught)
        self.compiled = compiled_by(protocol["compile"], self.network)
        images = (self.train, self.val)
        self.tuning = tuning.Tuning(self.network, protocol, recipe, images, device, lambda: self.step.autocast)
        self.per_epoch = steps(self.train, protocol["batch_size"], distributed.world())
        self.average = average_by(protocol, self.network) if protocol["select"] == "average" else None
        self.history: list[Epoch] = []
        self.selected: Epoch | None = None
        self.weights: dict[str, Tensor] = {}

    def run(
        self,
        on_epoch: Callable[[Epoch], None] | None = None,
        on_weights: Callable[[int, dict[str, Tensor]], None] | None = None,
        keeper: Keeper | None = None,
    ) -> Fit:
        """Train all epochs.

        Goes on from what `keeper` has, whose epochs `on_epoch` hears of again, and ends where it had ended
        uninterrupted: an epoch draws from generators of its own, keyed by its number. `on_weights` gets the weights of
        every epoch that is trained, on the CPU, before it is kept. Raises StageError on a loss that is not finite
        (epoch and step) and when memory runs out.
        """
        kept = distributed.from_first(keeper.load() if keeper is not None else None)
        if kept is not None and "fit" in kept:
            return told(Fit.from_state_dict(kept["fit"]), on_epoch)
        if kept is not None:
            self.load_state_dict(kept)
            told(self.found(), on_epoch)
        for index in range(len(self.history), self.protocol["epochs"]):
            self.history.append(epoch := self.epoch(index))
            if on_epoch is not None:
                on_epoch(epoch)
            self.select(epoch)
            if on_weights is not None:
                on_weights(epoch.epoch, copied(self.network))
            if keeper is not None and (self.average is not None or epoch.epoch < self.protocol["epochs"]):
                keeper.save(self.state_dict)
        if self.average is not None:
            self.select_average(self.average)
        fit = self.found()
        if keeper is not None:
            keeper.save(lambda: {"fit": fit.state_dict()}, last=True)
        return fit

    def epoch(self, index: int) -> Epoch:
        """Take the steps of epoch 0, 1, ... and validate."""
        torch.manual_seed(seed_of(self.seed, index, distributed.rank()))  # dropout and drop path
        losses, hits, seen = [], [], 0
        with memory_remedy(self.remedy), compile_remedy(self.protocol["compile"]):
            begun = self.tuning.begin(index)
            self.step.network = begun if self.compiled is None else self.compiled
            self.step.prepare(self.train, self.tuning.recipe, self.protocol["batch_size"])
            for number, batch in enumerate(self.batches(index), start=index * self.per_epoch):
                rate = self.rate(number, index)
                loss, right = self.step(batch, rate, number)
                losses.append(loss)
                hits.append(right)
                seen += len(batch.labels)
                if self.average is not None:
                    self.average.after_step(self.network)
                self.meter.tick()
            check_finite(step_losses := torch.stack(losses).cpu(), index + 1)
            if self.average is not None:
                self.average.after_epoch(self.network, index)
            return Epoch(
                epoch=index + 1,
                lr=rate,
                train_loss=step_losses.mean().item(),
                train_accuracy=torch.stack(hits).sum().item() / seen,
                **self.validated(self.network, index + 1),
            )

    def batches(self, epoch: int) -> Iterator[Batch]:
        return self.tuning.batches(self.protocol["sampler"], self.seed, epoch)

    def rate(self, step: int, epoch: int) -> float:
        """The learning rate of a step, counted from the training's first, which is one of epoch 0, 1, ..."""
        protocol = self.protocol
        scheduled = learning_rate(
            step,
            steps=protocol["epochs"] * self.per_epoch,
            warmup_steps=protocol["warmup_epochs"] * self.per_epoch,
            lr=protocol["lr"],
            schedule=protocol["schedule"],
            drop_every=protocol["step_epochs"] * self.per_epoch,
            gamma=protocol["gamma"],
        )
        return self.tuning.rate(scheduled, epoch)

    def validated(self, network: nn.Module, epoch: int) -> dict[str, Any]:
        """The validation scores of an Epoch, which is counted from 1."""
        if self.val is None:
            return dict.fromkeys(("val_loss", "val_accuracy", "val_macro_f1"))
        logits = self.val_logits(network, self.val)
        if not torch.isfinite(logits).all():
            raise DivergedError(f"the validation logits are not finite after epoch {epoch}", epoch)
        confusion = metrics.confusion_matrix(self.val.labels.numpy(), logits.argmax(1).numpy(), self.classes)
        found = metrics.scores(confusion)
        loss = F.cross_entropy(logits, self.val.labels).item()
        return {"val_loss": loss, "val_accuracy": found["accuracy"], "val_macro_f1": found["macro_f1"]}

    def val_logits(self, network: nn.Module, val: packed.Images) -> Tensor:
        """Logits (N, K) of the validation images, of which each process computes its share."""
        logits = self.tuning.val_logits()
        if logits is not None:
            return logits
        own = packed.rows(val, distributed.own(len(val)))
        logits = predict(network, own, self.format, self.device, self.protocol["batch_size"])
        return distributed.gathered(logits, len(val))

    def select(self, epoch: Epoch) -> None:
        """Select the epoch that has just been trained, unless the best is wanted and one before it was as good."""
        best = self.protocol["select"] == "best"
        if best and self.selected is not None and not better(epoch, self.selected):
            return
        self.selected = epoch
        if best or epoch.epoch == self.protocol["epochs"]:
            self.weights = copied(self.network)

    def select_average(self, average: Average) -> None:
        """Select the average of the weights, with the scores of its own."""
        epochs = self.protocol["epochs"]
        with memory_remedy(self.remedy):
            network = average.finish((batch.images for batch in self.batches(epochs)), self.device)
            self.selected = dataclasses.replace(self.history[-1], **self.validated(network, epochs))
            self.weights = copied(network)

    def found(self) -> Fit:
        assert self.selected is not None
        seconds = time.perf_counter() - self.started
        return Fit(self.history, self.selected, self.weights, seconds, self.meter.usage())

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on, and what was found so far."""
        extras = self.step.extras
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "centers": extras.centers.centers if extras is not None else None,
            "so_far": self.found().state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.step.extras is not None:
            self.step.extras.centers.centers = state["centers"].to(self.device)
        so_far = Fit.from_state_dict(state["so_far"])
        self.history, self.selected, self.weights = so_far.history, so_far.selected, so_far.weights
        self.started -= so_far.seconds
        self.meter.go_on_from(so_far.usage)


def told(fit: Fit, on_epoch: Callable[[Epoch], None] | None) -> Fit:
    """The fit, once `on_epoch` has heard of all its epochs."""
    if on_epoch is not None:
        for epoch in fit.history:
            on_epoch(epoch)
    return fit


def better(epoch: Epoch, than: Epoch) -> bool:
    """Whether validation found an epoch better."""
    assert epoch.val_macro_f1 is not None
    assert than.val_macro_f1 is not None
    return epoch.val_macro_f1 > than.val_macro_f1


def average_by(protocol: dict[str, Any], network: nn.Module) -> Average:
    """The average of the weights that the protocol names, which still has none."""
    start = min(round(protocol["average_start"] * protocol["epochs"]), protocol["epochs"] - 1)
    return Average(network, protocol["average"], decay=protocol["ema_decay"], start=start)


def copied(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def seed_of(seed: int, epoch: int, rank: int = 0) -> int:
    """The seed of what the network itself draws in an epoch, in one of several processes."""
    return (seed * 1_000_003 + epoch + rank * 2**53) % 2**63
