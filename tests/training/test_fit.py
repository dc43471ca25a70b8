"""Training learns, selects, repeats bit for bit, and says what went wrong and where."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import sklearn.metrics
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images import form, packed
from pipeline.images.batches import Batch, train_batches
from pipeline.images.recipe import Recipe
from pipeline.images.recipe import recipe as recipe_recipe
from pipeline.networks.angular import add_angular
from pipeline.records import diary
from pipeline.stages.evaluate import measure_cost
from pipeline.training import fit as training_fit
from pipeline.training import precision, record
from pipeline.training.fit import Trainer, seed_of
from pipeline.training.losses import focal
from pipeline.training.losses.weights import weighted_mean
from pipeline.training.precision import pick_precision, sound_precision
from pipeline.training.step import Step, make_optimizer

CPU = torch.device("cpu")
CLASSES = 3
PROTOCOL = {
    "device": "cpu",
    "precision": "fp32",
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 0.01,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "warmup_epochs": 0,
    "clip_norm": 1.0,
    "sam": 0.0,
    "sampler": "shuffle",
    "loss": "cross_entropy",
    "focal_gamma": 2.0,
    "class_weights": "none",
    "label_smoothing": 0.0,
    "margin": "none",
    "margin_m": 4.0,
    "margin_floor": 5.0,
    "margin_scale": 30.0,
    "center_loss": 0.0,
    "select": "best",
    "average": "swa",
    "average_start": 0.5,
    "ema_decay": 0.9,
    "tune": "full",
    "head_epochs": 1,
    "full_lr_factor": 0.1,
    "step_epochs": 1,
    "gamma": 0.1,
    "targets": "labels",
    "keep_epochs": False,
    "deterministic": False,
    "fast": True,
    "compile": "none",
}
PIPELINE = {"crop": 0.2, "aspect": 0.1, "shift": 0.1, "rotate": 5.0, "jitter": 0.1, "erase": 0.0}
AUGMENT = {"flip": True, "minority": "strong", "cutout": 0, "mixup": 0.0, "light": PIPELINE, "strong": PIPELINE}
FORM = form.format_for(16, "imagenet", {}, 3)


def images(counts: tuple[int, ...] = (20, 20, 20), seed: int = 0) -> packed.Images:
    """Noise with a bright band: at the top, in the middle or at the bottom."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = rng.integers(0, 100, (len(labels), 16, 16, 1), dtype=np.uint8)
    for row, label in zip(pixels, labels, strict=True):
        row[1 + 5 * label : 5 + 5 * label] += 120
    return packed.Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def recipe(strength: float = 1.0, **changes: Any) -> Recipe:
    augment = {**AUGMENT, "strength": strength, **changes}
    return recipe_recipe(FORM, [str(label) for label in range(CLASSES)], [], augment, True, CPU)


def tiny(seed: int = 0, dropout: float = 0.1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # its gradient before normalisation is noise
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8 * 16, CLASSES),
        )


def dropout_free() -> nn.Module:
    return tiny(dropout=0.0)


def linear() -> nn.Module:
    """Without batch normalisation and dropout: the same in training and evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, CLASSES))


def fit(network: nn.Module | None = None, *, seed: int = 0, strength: float = 1.0, **changes: Any) -> record.Fit:
    train, val = changes.pop("train", images()), changes.pop("val", images((10, 10, 10), seed=1))
    options = {key: changes.pop(key) for key in ("on_epoch", "on_weights", "keeper") if key in changes}
    augment = {key: changes.pop(key) for key in ("cutout", "mixup") if key in changes}
    trainer = Trainer(
        network if network is not None else tiny(),
        train,
        val,
        recipe(strength, **augment),
        {**PROTOCOL, **changes},
        classes=CLASSES,
        seed=seed,
        device=CPU,
    )
    return trainer.run(**options)


def batch(part: slice = slice(None), others: Tensor | None = None, share: float = 1.0) -> Batch:
    """Images as they are, mixed in name alone."""
    data = images()
    labels = data.labels[part]
    others = labels if others is None else others
    return Batch(form.prepare(data.pixels[part], FORM), labels, labels, others, share)


def step_of(network: nn.Module, optimizer: torch.optim.Optimizer, **changes: Any) -> Step:
    return Step(network, F.cross_entropy, optimizer, CPU, {**PROTOCOL, **changes}, CLASSES)


# Training


@pytest.mark.parametrize("changes", [{}, {"sam": 0.05}, {"schedule": "onecycle"}, {"select": "average"}], ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns_what_can_be_told_apart(optimizer: str, loss: str, changes: dict[str, Any]) -> None:
    result = fit(epochs=8, optimizer=optimizer, lr=0.01 if optimizer == "adamw" else 0.1, loss=loss, **changes)
    assert result.selected.val_macro_f1 > 0.95
    assert result.history[-1].train_accuracy > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss / 2
    assert result.seconds > 0


def test_the_history_has_each_epoch_once_with_the_rate_of_its_last_step() -> None:
    """60 images in batches of 16 are 4 steps an epoch: 4 of warm-up, then 12 of a cosine."""
    seen: list[diary.Epoch] = []
    result = fit(epochs=4, warmup_epochs=1, on_epoch=seen.append)
    assert seen == result.history
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]
    cosine = [0.005 * (1 + math.cos(math.pi * step / 12)) for step in (3, 7, 11)]
    assert [epoch.lr for epoch in result.history] == pytest.approx([0.01 * 4 / 5, *cosine])
    assert result.selected in result.history


def test_each_step_is_taken_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a rate of 0 nothing moves: here steps 4 to 7, which are epoch 2."""
    asked: list[int] = []

    def rate(step: int, **_: Any) -> float:
        asked.append(step)
        return 0.0 if 4 <= step < 8 else 0.01

    monkeypatch.setattr(training_fit, "learning_rate", rate)
    network, kept = linear(), []
    fit(network, epochs=3, on_epoch=lambda _: kept.append(copy.deepcopy(network.state_dict())))
    moved = [not before["2.weight"].equal(after["2.weight"]) for before, after in itertools.pairwise(kept)]
    assert moved == [False, True]
    assert asked == list(range(12))


@pytest.mark.parametrize("schedule", ["cosine", "constant", "onecycle"])
def test_the_schedule_spans_the_training(monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    """With torch's scheduler as the oracle, `constant` apart; 120 images in batches of 16 are 8 steps an epoch."""
    rates: list[float] = []

    class Watched(Step):
        def __call__(self, batch: Batch, rate: float, step: int = 0) -> tuple[Tensor, Tensor]:
            found = super().__call__(batch, rate, step)
            rates.append(self.optimizer.param_groups[0]["lr"])
            return found

    monkeypatch.setattr(training_fit, "Step", Watched)
    fit(train=images((40, 40, 40)), epochs=3, schedule=schedule)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    torchs: dict[str, Any] = {
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=24),
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "onecycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.01, total_steps=24, pct_start=0.5, cycle_momentum=False
        ),
    }
    scheduler, wanted = torchs[schedule](), [optimizer.param_groups[0]["lr"]]
    for _ in range(23):
        optimizer.step()
        scheduler.step()
        wanted.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(wanted)


def scripted(monkeypatch: pytest.MonkeyPatch, rights: list[int]) -> packed.Images:
    """Make epoch i's validation classify rights[i] of 10 images of each class correctly."""
    val, script = images((10, 10, 10), seed=1), iter(rights)

    def predict(*_: Any, **__: Any) -> Tensor:
        place = torch.arange(30) % 10
        guess = torch.where(place < next(script), val.labels, (val.labels + 1) % CLASSES)
        return F.one_hot(guess, CLASSES).float()

    monkeypatch.setattr(training_fit, "predict", predict)
    return val


@pytest.mark.parametrize(
    ("select", "rights", "epoch"),
    [("best", [5, 8, 8, 6], 2), ("best", [9, 8, 7, 6], 1), ("best", [5, 6, 7, 8], 4), ("last", [5, 8, 8, 6], 4)],
)
def test_the_earliest_epoch_with_the_highest_macro_f1_is_selected_or_the_last(
    monkeypatch: pytest.MonkeyPatch, select: str, rights: list[int], epoch: int
) -> None:
    val, network, kept = scripted(monkeypatch, rights), tiny(), []
    result = fit(
        network, val=val, epochs=4, select=select, on_epoch=lambda _: kept.append(copy.deepcopy(network.state_dict()))
    )
    assert [row.val_macro_f1 for row in result.history] == pytest.approx([count / 10 for count in rights])
    assert result.selected == result.history[epoch - 1]
    for key, value in result.weights.items():
        assert value.equal(kept[epoch - 1][key]), key
    assert not all(value.equal(kept[epoch - 2][key]) for key, value in result.weights.items())


def test_selection_goes_by_macro_f1_and_not_by_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 18, 1 and 1 images, epoch 1 gets all of the large class right, epoch 2 the small ones and half of it."""
    val = images((18, 1, 1), seed=1)
    script = iter([[0] * 20, [0] * 12 + [1] * 3 + [2] * 3 + [1, 2]])
    monkeypatch.setattr(
        training_fit, "predict", lambda *_, **__: F.one_hot(torch.tensor(next(script)), CLASSES).float()
    )
    result = fit(val=val, epochs=2)
    assert result.history[0].val_accuracy > result.history[1].val_accuracy
    assert result.selected.epoch == 2


def test_the_selected_weights_give_the_reported_scores_again() -> None:
    """Scores by scikit-learn and torch, from the weights alone."""
    val = images((10, 4, 7), seed=1)
    result = fit(val=val, epochs=3, lr=0.003)
    network = tiny(seed=9)
    network.load_state_dict(result.weights)
    with torch.no_grad():
        logits = network.eval()(form.prepare(val.pixels, FORM))
    predicted = logits.argmax(1)
    assert result.selected.val_macro_f1 == pytest.approx(
        sklearn.metrics.f1_score(val.labels, predicted, average="macro")
    )
    assert result.selected.val_accuracy == pytest.approx(sklearn.metrics.accuracy_score(val.labels, predicted))
    assert result.selected.val_loss == pytest.approx(F.cross_entropy(logits, val.labels).item(), rel=1e-5)


TECHNIQUES = {"cutout": 4, "mixup": 0.4, "sam": 0.05, "schedule": "onecycle", "select": "average"}


@pytest.mark.parametrize(
    "changes", [{}, {"sampler": "weighted"}, TECHNIQUES, {**TECHNIQUES, "average": "ema"}], ids=str
)
def test_one_seed_repeats_bit_for_bit_and_another_differs(changes: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = fit(**changes)
    torch.manual_seed(2)
    again, other = fit(**changes), fit(**changes, seed=1)
    assert again.history == first.history
    assert again.weights.keys() == first.weights.keys()
    assert all(value.equal(again.weights[key]) for key, value in first.weights.items())
    assert not first.weights["6.weight"].equal(other.weights["6.weight"])
    assert other.history != first.history


def test_each_epoch_of_each_seed_draws_its_own_dropout() -> None:
    seeds = {seed_of(seed, epoch) for seed in (0, 1, 2, 2**32 - 1) for epoch in range(1000)}
    assert len(seeds) == 4000
    torch.manual_seed(max(seeds))


# The average of the weights


class Kept(Step):
    """Keeps the weights after every step."""

    weights: ClassVar[list[dict[str, Tensor]]] = []

    def __call__(self, batch: Batch, rate: float, step: int = 0) -> tuple[Tensor, Tensor]:
        found = super().__call__(batch, rate, step)
        self.weights.append(copy.deepcopy(self.network.state_dict()))
        return found


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 2), (0.75, 3), (0.99, 3)])
def test_swa_gives_the_mean_of_the_last_epochs_with_statistics_of_the_training_images(start: float, first: int) -> None:
    network, ends = tiny(dropout=0), []
    options = {"select": "average", "average_start": start, "epochs": 4, "strength": 0.0}
    result = fit(network, **options, on_epoch=lambda _: ends.append(copy.deepcopy(network.state_dict())))
    oracle = tiny(dropout=0)
    for name, parameter in oracle.named_parameters():
        wanted = torch.stack([state[name] for state in ends[first:]]).mean(0)
        assert_close(result.weights[name], wanted)
        parameter.data.copy_(wanted)
    batches = train_batches(images(), recipe(0.0), sampler="shuffle", batch_size=16, seed=0, epoch=4, device=CPU)
    update_bn([batch.images for batch in batches], oracle.train())
    assert_close(result.weights, oracle.state_dict())
    assert not result.weights["1.running_mean"].allclose(ends[-1]["1.running_mean"], rtol=1e-3)


def test_ema_gives_the_recursive_average_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    Kept.weights.clear()
    monkeypatch.setattr(training_fit, "Step", Kept)
    result = fit(select="average", average="ema", epochs=4)
    wanted: dict[str, Tensor] = {}
    for step, state in enumerate(Kept.weights, start=1):
        decay = min(0.9, (1 + step) / (10 + step)) if wanted else 0.0
        wanted = {
            key: decay * wanted.get(key, 0.0) + (1 - decay) * value
            for key, value in state.items()
            if value.is_floating_point()
        }
    assert len(Kept.weights) == 16
    for key, value in wanted.items():
        assert_close(result.weights[key], value)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_the_selected_scores_are_those_of_the_average_and_not_of_the_last_epoch(kind: str) -> None:
    val = images((10, 4, 7), seed=1)
    result = fit(val=val, select="average", average=kind, epochs=3, lr=0.003)
    network = tiny(seed=9)
    network.load_state_dict(result.weights)
    with torch.no_grad():
        logits = network.eval()(form.prepare(val.pixels, FORM))
    last = result.history[-1]
    assert result.selected.val_loss == pytest.approx(F.cross_entropy(logits, val.labels).item(), rel=1e-5)
    assert result.selected.val_loss != pytest.approx(last.val_loss, rel=1e-3)
    wanted = sklearn.metrics.f1_score(val.labels, logits.argmax(1), average="macro")
    assert result.selected.val_macro_f1 == pytest.approx(wanted)
    assert (result.selected.epoch, result.selected.lr, result.selected.train_loss) == (3, last.lr, last.train_loss)


def test_an_average_changes_nothing_of_the_training_itself() -> None:
    assert fit(select="average").history == fit(select="average", average="ema").history == fit(select="last").history


# One step


@pytest.mark.parametrize("clip_norm", [None, 1.0, 0.01])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_torchs_own(optimizer: str, clip_norm: float | None) -> None:
    protocol = {**PROTOCOL, "optimizer": optimizer, "weight_decay": 0.1}
    network, oracle = tiny(dropout=0).train(), tiny(dropout=0).train()
    step = step_of(network, make_optimizer(network, protocol, CPU), clip_norm=clip_norm)
    torchs = {
        "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.02, weight_decay=0.1),
        "sgd": lambda weights: torch.optim.SGD(weights, lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=True),
    }[optimizer](oracle.parameters())
    for part in (slice(0, 40), slice(20, 60)):
        pictures, labels, *_ = batch(part)
        found, hits = step(batch(part), 0.02)
        logits = oracle(pictures)
        loss = F.cross_entropy(logits, labels)
        torchs.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(oracle.parameters(), clip_norm)
        torchs.step()
        assert_close(found, loss.detach())
        assert hits == (logits.argmax(1) == labels).sum()
    for key, value in oracle.state_dict().items():
        assert_close(network.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


def moved(network: nn.Module, mixed: Batch, **changes: Any) -> Tensor:
    """How one step of plain gradient descent at rate 1 moves all weights."""
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    step_of(network, torch.optim.SGD(network.parameters()), **{"clip_norm": None, **changes})(mixed, 1.0)
    return nn.utils.parameters_to_vector(network.parameters()).detach() - before


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_clipping_bounds_the_step(rho: float) -> None:
    free = moved(linear(), batch(), sam=rho).norm().item()
    assert free > 0.1
    assert moved(linear(), batch(), sam=rho, clip_norm=0.05).norm().item() == pytest.approx(0.05, rel=1e-3)
    assert moved(linear(), batch(), sam=rho, clip_norm=100.0).norm().item() == pytest.approx(free)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_a_mixed_batch_trains_on_the_share_of_either_label(share: float) -> None:
    """Which is cross-entropy with soft targets, in value and gradient."""
    mixed = batch(others=images().labels.roll(7), share=share)
    oracle, network = linear(), linear()
    targets = share * F.one_hot(mixed.labels, CLASSES) + (1 - share) * F.one_hot(mixed.others, CLASSES)
    wanted = F.cross_entropy(oracle(mixed.images), targets)
    wanted.backward()
    found, hits = step_of(network, torch.optim.SGD(network.parameters()))(mixed, 0.0)
    assert_close(found, wanted.detach())
    assert hits == (oracle(mixed.images).argmax(1) == mixed.labels).sum(), "accuracy counts the larger share's label"
    gradient = torch.cat([value.grad.flatten() for value in oracle.parameters()])
    assert_close(moved(linear(), mixed), -gradient)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_votes_are_targets_that_move_with_their_images(mixup: float) -> None:
    """Of images whose votes are all for the label, a training is the one on labels; of doubtful ones it is not."""
    plain, data = fit(mixup=mixup), images()
    certain = dataclasses.replace(data, shares=F.one_hot(data.labels, CLASSES).float())
    same = fit(train=certain, mixup=mixup, targets="votes")
    assert [row.train_loss for row in same.history] == pytest.approx([row.train_loss for row in plain.history])
    torch.testing.assert_close(same.weights, plain.weights)
    doubtful = dataclasses.replace(data, shares=0.7 * certain.shares + 0.1)
    assert fit(train=doubtful, mixup=mixup).history[-1].train_loss > plain.history[-1].train_loss + 0.1


def test_a_step_on_votes_is_cross_entropy_with_shares() -> None:
    shares = torch.rand(60, CLASSES).softmax(1)
    network = linear()
    wanted = -(shares * linear()(batch().images).log_softmax(1)).sum(1).mean()
    found, _ = step_of(network, torch.optim.SGD(network.parameters()))(batch()._replace(targets=shares), 0.0)
    assert_close(found, wanted.detach())


def test_the_plain_forms_train_alike() -> None:
    """Memory layout and a fused optimiser change the last bits of a step and nothing else."""
    fast, plain = fit(), fit(fast=False)
    assert [row.train_loss for row in fast.history] == pytest.approx([row.train_loss for row in plain.history], 1e-4)


def test_compiled_passes_train_alike() -> None:
    """The last batch of 60 images is smaller than the others: both sizes are compiled."""
    plain, fast = fit(dropout_free(), epochs=2), fit(dropout_free(), epochs=2, compile="default")
    assert [row.train_loss for row in fast.history] == pytest.approx([row.train_loss for row in plain.history], 1e-3)
    assert list(fast.weights) == list(plain.weights), "the network's own names"


def test_a_compiler_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.exc

    def broken(*_: object) -> None:
        raise torch._inductor.exc.InvalidCxxCompiler

    monkeypatch.setattr(Step, "__call__", broken)
    with pytest.raises(StageError, match=r"train\.compile: default does not work here .*apt install g\+\+"):
        fit(compile="default")


def test_weights_of_every_epoch_are_handed_out_and_the_selected_are_among_them() -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    found = fit(epochs=4, on_weights=kept.__setitem__)
    assert list(kept) == [1, 2, 3, 4]
    assert all(torch.equal(kept[found.selected.epoch][name], value) for name, value in found.weights.items())
    assert not torch.equal(kept[1]["0.weight"], kept[4]["0.weight"]), "each is a copy"


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_step_with_sam_takes_the_gradient_at_the_worst_neighbour(share: float) -> None:
    mixed, rho = batch(others=images().labels.roll(7), share=share), 0.5

    def gradient(network: nn.Module) -> Tensor:
        logits = network(mixed.images)
        losses = [F.cross_entropy(logits, labels) for labels in (mixed.labels, mixed.others)]
        found = torch.autograd.grad(share * losses[0] + (1 - share) * losses[1], tuple(network.parameters()))
        return torch.cat([part.flatten() for part in found])

    there = tiny(dropout=0).train()
    climbed = gradient(there)
    home = nn.utils.parameters_to_vector(there.parameters()).detach()
    nn.utils.vector_to_parameters(home + rho * climbed / climbed.norm(), there.parameters())
    wanted = gradient(there)
    assert_close(moved(tiny(dropout=0).train(), mixed, sam=rho), -wanted, rtol=1e-3, atol=1e-5)
    assert (wanted - climbed).norm() > 0.1 * climbed.norm()


def test_sam_reports_the_loss_at_the_weights_themselves() -> None:
    losses = []
    for rho in (0.0, 0.5):
        network = tiny(dropout=0).train()
        losses.append(step_of(network, torch.optim.SGD(network.parameters()), sam=rho)(batch(), 0.1))
    assert losses[0] == losses[1]


def test_the_optimisers_are_told_what_params_say() -> None:
    protocol = {**PROTOCOL, "lr": 0.02, "weight_decay": 0.3}
    adamw = make_optimizer(tiny(), protocol, CPU)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["weight_decay"]) == (0.02, 0.3)
    sgd = make_optimizer(tiny(), {**protocol, "optimizer": "sgd"}, CPU)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["weight_decay"]) == (0.9, 0.3)


# The loss

WEIGHTS = torch.tensor([1 / 30, 1 / 10, 1 / 5]) / torch.tensor([1 / 30, 1 / 10, 1 / 5]).mean()
LOSSES: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "plain": ({}, F.cross_entropy),
    "weighted": ({"class_weights": "inverse"}, lambda logits, labels: F.cross_entropy(logits, labels, WEIGHTS)),
    "smoothed": ({"label_smoothing": 0.1}, lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=0.1)),
    "focal": ({"loss": "focal"}, lambda logits, labels: weighted_mean(focal.losses(logits, 2.0), labels)),
    "focal and weighted": (
        {"loss": "focal", "focal_gamma": 3.0, "class_weights": "inverse"},
        lambda logits, labels: weighted_mean(focal.losses(logits, 3.0), labels, WEIGHTS),
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_the_reported_training_loss_is_the_one_that_params_ask_for(case: str) -> None:
    """One epoch of one batch, without augmentation, starts from the network as it is."""
    changes, oracle = LOSSES[case]
    train = images((30, 10, 5))
    with torch.no_grad():
        wanted = oracle(linear()(form.prepare(train.pixels, FORM)), train.labels).item()
    result = fit(linear(), train=train, epochs=1, batch_size=45, strength=0.0, **changes)
    assert result.history[0].train_loss == pytest.approx(wanted, rel=1e-4)
    assert len({round(float(loss(torch.eye(3), torch.arange(3))), 6) for _, loss in LOSSES.values()}) == len(LOSSES) - 1


# Faults

RESNET18 = {"backbone": "resnet18", "args": {"channels": [8, 8, 16, 16]}}


class Poisoned(nn.Module):
    """Fails in its own way at one training step, counted from 1 over all epochs."""

    def __init__(self, step: int, fail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.step, self.fail, self.count = linear(), step, fail, 0

    def forward(self, pictures: Tensor) -> Tensor:
        logits = self.body(pictures)
        self.count += self.training
        return self.fail(logits) if self.training and self.count == self.step else logits


@pytest.mark.parametrize(("factor", "word"), [(float("nan"), "nan"), (float("inf"), "(nan|inf)")])
def test_a_loss_that_is_not_finite_ends_training_with_its_epoch_and_step(factor: float, word: str) -> None:
    """60 images in batches of 16 are 4 steps an epoch: the 7th step is the 3rd of epoch 2."""
    seen: list[diary.Epoch] = []
    with pytest.raises(StageError, match=rf"^the loss is {word} at epoch 2, step 3; lower train\.lr, clip with"):
        fit(Poisoned(7, lambda logits: logits * factor), on_epoch=seen.append)
    assert len(seen) == 1


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_learning_rate_that_is_far_too_high_is_caught(clip_norm: float | None) -> None:
    with pytest.raises(StageError, match=r"^the loss is (nan|inf) at epoch 1, step [2-4]; lower train\.lr"):
        fit(lr=1e30, schedule="constant", clip_norm=clip_norm)


def test_divergence_in_the_very_last_step_is_caught() -> None:
    with pytest.raises(StageError, match=r"^the validation logits are not finite after epoch 1; lower train\.lr"):
        fit(lr=1e30, schedule="constant", clip_norm=None, epochs=1, batch_size=60)


def test_bf16_is_not_used_where_a_processor_would_compute_wrong_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet18 has maps of 1x1 before its last stride at 16 pixels, of 4x4 at 64."""
    monkeypatch.setattr(precision, "capabilities", lambda: {"avx512_bf16": True})
    network = networks.build("timm", name="cnn", classes=3, image_size=16, seed=0, pretrained=False, **RESNET18)
    assert sound_precision("auto", CPU, network, 64) == "bf16"
    assert sound_precision("auto", CPU, network, 16) == "fp32"
    with pytest.raises(StageError, match=r"bf16 gives wrong gradients .* \(layer4\.0\.conv1\); choose fp32 or auto"):
        sound_precision("bf16", CPU, network, 16)


def out_of_memory(_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize(
    "fail", [out_of_memory, lambda _: torch.empty(2**50)], ids=["of a GPU", "of the processor, really"]
)
def test_running_out_of_memory_ends_training_with_the_remedy(fail: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(StageError, match=r"^out of memory; halve train\.batch_size \(now 16\)"):
        fit(Poisoned(2, fail))


def test_another_error_is_not_taken_for_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(Poisoned(1, lambda logits: logits @ logits))


# Margins and centres


def angular(scale: float = 0.0) -> nn.Module:
    network = linear()
    add_angular(network, CLASSES, scale)
    return network


MARGINS: dict[str, tuple[float, dict[str, Any]]] = {
    "a_softmax": (0.0, {"margin": "a_softmax", "margin_m": 4.0}),
    "arcface": (30.0, {"margin": "arcface", "margin_m": 0.5}),
    "center": (0.0, {"center_loss": 0.01}),
}


@pytest.mark.parametrize("name", MARGINS)
def test_margins_and_centres_learn_what_can_be_told_apart(name: str) -> None:
    scale, protocol = MARGINS[name]
    network = tiny()
    add_angular(network, CLASSES, scale)
    assert fit(network, epochs=8, optimizer="sgd", lr=0.1, **protocol).selected.val_macro_f1 > 0.95


def trained(network: nn.Module, part: Batch, step: int, **protocol: Any) -> Tensor:
    """The loss of a step without a change."""
    taken = step_of(network, torch.optim.SGD(network.parameters()), **protocol)
    return taken(part, 0.0, step)[0]


def step_loss(network: nn.Module, step: int = 0, **protocol: Any) -> float:
    return trained(network, batch(), step, **protocol).item()


@pytest.mark.parametrize(
    ("scale", "protocol"),
    [(0.0, {"margin": "a_softmax", "margin_m": 1.0}), (30.0, {"margin": "arcface", "margin_m": 0.0})],
    ids=["a_softmax", "arcface"],
)
def test_no_margin_is_cross_entropy_of_the_classifier_by_angle(scale: float, protocol: dict[str, Any]) -> None:
    network = angular(scale)
    wanted = F.cross_entropy(network(batch().images), batch().labels).item()
    assert step_loss(network, **protocol) == pytest.approx(wanted, rel=1e-5)


def test_a_margin_is_annealed_over_the_steps_of_a_training() -> None:
    protocol = {"margin": "a_softmax", "margin_floor": 0.0}
    found = [step_loss(angular(), step, **protocol) for step in (0, 1000, 10**7)]
    assert found[0] == pytest.approx(step_loss(angular()), rel=0.01)
    assert found == sorted(found)
    assert found[2] > 1.1 * found[0]


def test_a_margin_goes_with_mixup_and_both_labels_get_it() -> None:
    network, protocol = angular(), {"margin": "a_softmax", "margin_floor": 0.0}
    labels, others = batch().labels, batch().labels.roll(7)
    alone = [
        trained(network, part, 10**7, **protocol)
        for part in (batch(), batch()._replace(labels=others, targets=others, others=others))
    ]
    mixed = batch(others=others, share=0.7)
    assert_close(mixed.labels, labels)
    found = trained(network, mixed, 10**7, **protocol)
    assert_close(found, 0.7 * alone[0] + 0.3 * alone[1])


def test_centres_move_once_a_step_also_where_sam_looks_twice() -> None:
    moved_by = []
    for rho in (0.0, 0.05):
        network = linear()
        step = step_of(network, torch.optim.SGD(network.parameters()), center_loss=0.1, sam=rho)
        step(batch(), 0.0)
        assert step.extras is not None
        moved_by.append(step.extras.centers.centers.clone())
    assert moved_by[0].any()
    assert_close(*moved_by)


# Precision


def test_automatic_precision_is_what_the_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert pick_precision("auto", torch.device("cuda")) == wanted
    for able, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert pick_precision("auto", CPU) == wanted
    assert pick_precision("auto", torch.device("mps")) == "fp32"


def test_a_precision_that_was_asked_for_is_taken_or_refused() -> None:
    assert pick_precision("fp32", torch.device("cuda")) == "fp32"
    assert pick_precision("fp16", torch.device("cuda")) == "fp16"
    assert pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(StageError, match=r"^params\.yaml: train\.precision: fp16 needs a GPU; choose bf16 or fp32"):
        pick_precision("fp16", CPU)


class Watched(nn.Module):
    """Notes the precision of its logits in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.seen = linear(), {True: set(), False: set()}

    def forward(self, pictures: Tensor) -> Tensor:
        logits = self.body(pictures)
        self.seen[self.training].add(logits.dtype)
        return logits


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_is_in_the_precision_asked_for_and_prediction_in_float32(precision: str, dtype: torch.dtype) -> None:
    network = Watched()
    result = fit(network, precision=precision, epochs=1)
    assert network.seen == {True: {dtype}, False: {torch.float32}}
    assert all(value.dtype == torch.float32 for value in result.weights.values())


# Cost


def test_the_cost_of_resnet18_is_the_published_one(tmp_path: Path) -> None:
    """1.82 G multiply-adds and 11.69 M parameters at 224 pixels and 1,000 classes, as timm's tables have them."""
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"0" * 1234)
    cost = measure_cost(timm.create_model("resnet18"), form.format_for(224, "imagenet", {}, 3), weights)
    assert cost["flops"] / 2e9 == pytest.approx(1.82, abs=0.01)
    assert cost["parameters"] == 11_689_512
    assert cost["weight_bytes"] == 1234


@pytest.mark.parametrize("channels", [1, 3])
def test_flops_count_a_multiplication_and_an_addition_apart(tmp_path: Path, channels: int) -> None:
    (tmp_path / "weights").touch()
    cost = measure_cost(
        nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Flatten(), nn.Linear(800, 5)),
        form.format_for(10, "imagenet", {}, channels),
        tmp_path / "weights",
    )
    assert cost["flops"] == 2 * (3 * 3 * channels * 8 * 100 + 800 * 5)
    assert cost["parameters"] == 3 * 3 * channels * 8 + 8 + 800 * 5 + 5
