"""The training loop: one model, one seed, the checkpoint that validation chooses.

Scores are computed in float32 whatever the precision of training; losses and predictions stay on the device until the
epoch is over.
"""

import contextlib
import dataclasses
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import distributed, loader, metrics, networks, registry, transfer
from pipeline.diary import Epoch
from pipeline.inference import capabilities, memory_remedy, predict
from pipeline.losses.a_softmax import a_softmax_logits, annealed
from pipeline.losses.arcface import arcface_logits
from pipeline.losses.center import Centers
from pipeline.losses.weights import inverse_frequency, weighted_mean
from pipeline.networks.angular import classifier
from pipeline.optim.average import Average
from pipeline.optim.sam import at_worst_neighbour
from pipeline.optim.schedule import learning_rate
from pipeline.stage import StageError

DIVERGED = "lower train.lr, clip with train.clip_norm: 1.0 or set train.precision: fp32"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a training found, or has found so far."""

    history: list[Epoch]
    selected: Epoch
    weights: dict[str, Tensor]  # of the selected epoch, on the CPU
    seconds: float  # of training and validation, loading and saving apart

    def state_dict(self) -> dict[str, Any]:
        """The same in types that `torch.load(weights_only=True)` reads."""
        history = [dataclasses.asdict(epoch) for epoch in self.history]
        return {**vars(self), "history": history, "selected": dataclasses.asdict(self.selected)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Fit":
        history = [Epoch(**row) for row in state["history"]]
        return cls(history, Epoch(**state["selected"]), state["weights"], state["seconds"])


class Keeper(Protocol):
    """Keeps the state of a training where a kill does not reach it; pipeline/resume.py has one."""

    def load(self) -> dict[str, Any] | None: ...

    def save(self, state: Callable[[], dict[str, Any]], last: bool = False) -> None: ...


def pick_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the processor computes it, else fp16 with gradient scaling on a GPU, else fp32."""
    if precision == "fp16" and device.type == "cpu":
        raise StageError("params.yaml: train.precision: fp16 needs a GPU; choose bf16 or fp32 on a CPU")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and capabilities().get("avx512_bf16", False):
        return "bf16"
    return "fp32"


def sound_precision(precision: str, device: torch.device, network: nn.Module, size: int) -> str:
    """`pick_precision` for one network: where bf16 would be wrong, auto is fp32 and an explicit bf16 a StageError."""
    picked = pick_precision(precision, device)
    unsound = strided_1x1(network, size) if device.type == "cpu" and picked == "bf16" else None
    if unsound is None:
        return picked
    if precision == "auto":
        return "fp32"
    raise StageError(
        "params.yaml: train.precision: bf16 gives wrong gradients on this processor where a convolution strides over"
        f" 1x1 maps ({unsound}); choose fp32 or auto, or a larger dataset.image_size"
    )


def strided_1x1(network: nn.Module, size: int) -> str | None:
    """The first convolution that strides over maps of 1x1 with a larger kernel.

    There torch 2.15's bf16 convolutions on a CPU leave garbage (1e35, inf) in the weight's gradient: the kernel's outer
    taps see padding alone, and their gradient is not set to zero.
    """
    unsound: list[str] = []

    def note(name: str, kernel: tuple[int, ...], stride: tuple[int, ...], images: Tensor) -> None:
        if max(images.shape[-2:]) == 1 and max(kernel) > 1 and max(stride) > 1:
            unsound.append(name)

    hooks = [
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: note(name, module.kernel_size, module.stride, inputs[0])
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, networks.channels(network), size, size))
    for hook in hooks:
        hook.remove()
    return unsound[0] if unsound else None


class Trainer:
    """Trains `network` by `protocol` (the keys of `train` in params.yaml), its precision settled.

    Selects the weights that `select` names: those of the epoch with the highest validation macro-F1, the earliest of
    equals; of the last epoch; or the average. The latter two do without validation images.
    """

    def __init__(
        self,
        network: nn.Module,
        train: loader.Images,
        val: loader.Images | None,
        recipe: loader.Recipe,
        protocol: dict[str, Any],
        *,
        classes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.started = time.perf_counter()
        self.protocol, self.classes, self.seed, self.device = protocol, classes, seed, device
        self.format = recipe.format
        self.remedy = f"halve train.batch_size (now {protocol['batch_size']}) or choose a smaller dataset.image_size"
        with memory_remedy(self.remedy):
            self.network = placed(network, device, protocol["fast"])
            self.train = loader.resident(train, device)
            self.val = loader.resident(val, device) if val is not None else None
        self.optimizer = make_optimizer(self.network, protocol, device)
        loss_of = make_loss(self.train.labels, protocol, classes, device)
        self.step = Step(self.network, loss_of, self.optimizer, device, protocol, classes)
        self.compiled = compiled_by(protocol["compile"], self.network)
        images = (self.train, self.val)
        self.tuning = transfer.Tuning(self.network, protocol, recipe, images, device, lambda: self.step.autocast)
        self.per_epoch = loader.steps(self.train, protocol["batch_size"], distributed.world())
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
            if keeper is not None:
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
            for number, batch in enumerate(self.batches(index), start=index * self.per_epoch):
                rate = self.rate(number, index)
                loss, right = self.step(batch, rate, number)
                losses.append(loss)
                hits.append(right)
                seen += len(batch.labels)
                if self.average is not None:
                    self.average.after_step(self.network)
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

    def batches(self, epoch: int) -> Iterator[loader.Batch]:
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
            raise StageError(f"the validation logits are not finite after epoch {epoch}; {DIVERGED}")
        confusion = metrics.confusion_matrix(self.val.labels.numpy(), logits.argmax(1).numpy(), self.classes)
        found = metrics.scores(confusion)
        loss = F.cross_entropy(logits, self.val.labels).item()
        return {"val_loss": loss, "val_accuracy": found["accuracy"], "val_macro_f1": found["macro_f1"]}

    def val_logits(self, network: nn.Module, val: loader.Images) -> Tensor:
        """Logits (N, K) of the validation images, of which each process computes its share."""
        logits = self.tuning.val_logits()
        if logits is not None:
            return logits
        own = loader.rows(val, distributed.own(len(val)))
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
        return Fit(self.history, self.selected, self.weights, time.perf_counter() - self.started)

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


def placed(network: nn.Module, device: torch.device, fast: bool) -> nn.Module:
    """The network on the device; if `fast`, its kernels in the order in which processors read images."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if fast else network


def compiled_by(mode: str, network: nn.Module) -> nn.Module | None:
    """The network, its parameters and state shared, with passes compiled for each size of batch; None for mode none."""
    return None if mode == "none" else cast(nn.Module, torch.compile(network, mode=mode, dynamic=False))


@contextlib.contextmanager
def compile_remedy(mode: str) -> Iterator[None]:
    """Turn what torch's compiler fails with into a StageError."""
    try:
        yield
    except Exception as error:
        if mode == "none" or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = " ".join(str(error).split())[:150]
        raise StageError(
            f"params.yaml: train.compile: {mode} does not work here ({reason}); choose none, or install a C++ compiler"
            " (Debian, Ubuntu: apt install g++)"
        ) from None


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
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.extras = Extras(network, protocol, classes) if Extras.wanted(protocol) else None
        self.loss_of = self.extras.around(loss_of) if self.extras else loss_of
        self.clip_norm, self.rho, self.fast = protocol["clip_norm"], protocol["sam"], protocol["fast"]
        dtype = PRECISIONS[protocol["precision"]]
        self.autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def __call__(self, batch: loader.Batch, rate: float, step: int = 0) -> tuple[Tensor, Tensor]:
        """Returns the loss and the number of right answers on the augmented images, both on the device.

        `step` is its number, from the training's first: a margin's weight depends on it.
        """
        if self.extras:
            self.extras.step = step
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss, logits = self._backward(batch)
        if self.extras:
            self.extras.update(batch.labels)
        if self.rho:
            with at_worst_neighbour(self.network, self.rho):
                self._backward(batch)
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()

    def _backward(self, batch: loader.Batch) -> tuple[Tensor, Tensor]:
        with self.autocast:
            logits = self.network(batch.images if self.fast else batch.images.contiguous())
        logits = distributed.gathered(logits.float(), len(batch.labels))
        loss = self.loss_of(logits, batch.targets)
        if batch.share < 1:
            loss = batch.share * loss + (1 - batch.share) * self.loss_of(logits, batch.others)
        self.scaler.scale(loss).backward()
        distributed.sum_gradients(self.network)
        return loss, logits


class Extras:
    """What a loss takes from the features, the input of the classifier: a margin on the logits, a pull to the centres.

    The centres are its only state. A network that is trained with a margin has a classifier by angle.
    """

    def __init__(self, network: nn.Module, protocol: dict[str, Any], classes: int) -> None:
        self.protocol, self.step = protocol, 0
        self.features = torch.empty(0)  # (N, D) of the last forward pass
        self.centers = Centers(classes)
        classifier(network, classes).register_forward_pre_hook(self._keep)

    @staticmethod
    def wanted(protocol: dict[str, Any]) -> bool:
        return protocol["margin"] != "none" or protocol["center_loss"] > 0

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].float()

    def around(self, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def extended(logits: Tensor, labels: Tensor) -> Tensor:
            loss = loss_of(self.margin(logits, labels), labels)
            if weight := self.protocol["center_loss"]:
                loss = loss + weight * self.centers.loss(self.features, labels)
            return loss

        return extended

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K) with the margin that the protocol names."""
        m = self.protocol["margin_m"]
        if self.protocol["margin"] == "a_softmax":
            weight = annealed(self.step, self.protocol["margin_floor"])
            return a_softmax_logits(logits, self.features.norm(dim=1), labels, int(m), weight)
        if self.protocol["margin"] == "arcface":
            return arcface_logits(logits, labels, m, self.protocol["margin_scale"])
        return logits

    def update(self, labels: Tensor) -> None:
        """Move the centres, once a step, by the features of its first forward pass."""
        if self.protocol["center_loss"]:
            self.centers.update(self.features.detach(), labels)


def make_optimizer(network: nn.Module, protocol: dict[str, Any], device: torch.device) -> torch.optim.Optimizer:
    """The optimiser that the protocol names, told as much of what is known here as it asks for."""
    name = protocol["optimizer"]
    optimizer = registry.load("optim", name).optimizer
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
    losses = registry.load("losses", name).losses
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
        raise StageError(f"the loss is {losses[step - 1].item()} at epoch {epoch}, step {step}; {DIVERGED}")


def seed_of(seed: int, epoch: int, rank: int = 0) -> int:
    """The seed of what the network itself draws in an epoch, in one of several processes."""
    return (seed * 1_000_003 + epoch + rank * 2**53) % 2**63
