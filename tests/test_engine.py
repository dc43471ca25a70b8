"""Training learns, selects, repeats bit for bit, and says what went wrong and where."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline import engine, loader, networks
from pipeline.evaluate import measure_cost
from pipeline.losses.focal import focal_loss
from pipeline.stage import StageError

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
    "sampler": "shuffle",
    "loss": "cross_entropy",
    "focal_gamma": 2.0,
    "class_weights": "none",
    "label_smoothing": 0.0,
    "select": "best",
}
PIPELINE = {"crop": 0.2, "aspect": 0.1, "rotate": 5.0, "jitter": 0.1, "erase": 0.0}


def images(counts: tuple[int, ...] = (20, 20, 20), seed: int = 0) -> loader.Images:
    """Noise with a bright band: at the top, in the middle or at the bottom."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = rng.integers(0, 100, (len(labels), 16, 16, 1), dtype=np.uint8)
    for row, label in zip(pixels, labels, strict=True):
        row[1 + 5 * label : 5 + 5 * label] += 120
    return loader.Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def recipe(strength: float = 1.0) -> loader.Recipe:
    augment = {"strength": strength, "flip": True, "minority": "strong", "light": PIPELINE, "strong": PIPELINE}
    return loader.recipe(16, [str(label) for label in range(CLASSES)], [], augment, True, CPU)


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


def linear() -> nn.Module:
    """Without batch normalisation and dropout: the same in training and evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, CLASSES))


def fit(network: nn.Module | None = None, *, seed: int = 0, strength: float = 1.0, **changes: Any) -> engine.Fit:
    options = {key: changes.pop(key) for key in ("train", "val", "on_epoch") if key in changes}
    return engine.fit(
        network if network is not None else tiny(),
        options.pop("train", images()),
        options.pop("val", images((10, 10, 10), seed=1)),
        recipe(strength),
        {**PROTOCOL, **changes},
        classes=CLASSES,
        seed=seed,
        device=CPU,
        **options,
    )


# Training


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns_what_can_be_told_apart(optimizer: str, loss: str) -> None:
    result = fit(epochs=8, optimizer=optimizer, lr=0.01 if optimizer == "adamw" else 0.1, loss=loss)
    assert result.selected.val_macro_f1 > 0.95
    assert result.history[-1].train_accuracy > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss / 2
    assert result.seconds > 0


def test_the_history_has_each_epoch_once_with_the_rate_it_was_trained_at() -> None:
    seen: list[engine.Epoch] = []
    result = fit(epochs=4, warmup_epochs=1, on_epoch=seen.append)
    assert seen == result.history
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]
    assert [epoch.lr for epoch in result.history] == pytest.approx([0.005, 0.01, 0.0075, 0.0025])
    assert result.selected in result.history


def test_each_epoch_is_trained_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a rate of 0 nothing moves."""
    monkeypatch.setattr(engine, "learning_rate", lambda epoch, **_: [0.01, 0.0, 0.01][epoch])
    network, kept = linear(), []
    fit(network, epochs=3, on_epoch=lambda _: kept.append(copy.deepcopy(network.state_dict())))
    moved = [not before["2.weight"].equal(after["2.weight"]) for before, after in itertools.pairwise(kept)]
    assert moved == [False, True]


def scripted(monkeypatch: pytest.MonkeyPatch, rights: list[int]) -> loader.Images:
    """Make epoch i's validation classify rights[i] of 10 images of each class correctly."""
    val, script = images((10, 10, 10), seed=1), iter(rights)

    def predict(*_: Any, **__: Any) -> Tensor:
        place = torch.arange(30) % 10
        guess = torch.where(place < next(script), val.labels, (val.labels + 1) % CLASSES)
        return F.one_hot(guess, CLASSES).float()

    monkeypatch.setattr(engine, "predict", predict)
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
    monkeypatch.setattr(engine, "predict", lambda *_, **__: F.one_hot(torch.tensor(next(script)), CLASSES).float())
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
        logits = network.eval()(loader.prepare(val.pixels, 16))
    predicted = logits.argmax(1)
    assert result.selected.val_macro_f1 == pytest.approx(
        sklearn.metrics.f1_score(val.labels, predicted, average="macro")
    )
    assert result.selected.val_accuracy == pytest.approx(sklearn.metrics.accuracy_score(val.labels, predicted))
    assert result.selected.val_loss == pytest.approx(F.cross_entropy(logits, val.labels).item(), rel=1e-5)


@pytest.mark.parametrize("sampler", ["shuffle", "weighted"])
def test_one_seed_repeats_bit_for_bit_and_another_differs(sampler: str) -> None:
    torch.manual_seed(1)
    first = fit(sampler=sampler)
    torch.manual_seed(2)
    again, other = fit(sampler=sampler), fit(sampler=sampler, seed=1)
    assert again.history == first.history
    assert again.weights.keys() == first.weights.keys()
    assert all(value.equal(again.weights[key]) for key, value in first.weights.items())
    assert not first.weights["6.weight"].equal(other.weights["6.weight"])
    assert other.history != first.history


def test_each_epoch_of_each_seed_draws_its_own_dropout() -> None:
    seeds = {engine.seed_of(seed, epoch) for seed in (0, 1, 2, 2**32 - 1) for epoch in range(1000)}
    assert len(seeds) == 4000
    torch.manual_seed(max(seeds))


# One step


@pytest.mark.parametrize("clip_norm", [None, 1.0, 0.01])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_torchs_own(optimizer: str, clip_norm: float | None) -> None:
    protocol = {**PROTOCOL, "optimizer": optimizer, "weight_decay": 0.1}
    network, oracle = tiny(dropout=0).train(), tiny(dropout=0).train()
    data = images()
    batches = [(loader.prepare(data.pixels[part], 16), data.labels[part]) for part in (slice(0, 40), slice(20, 60))]
    losses, accuracy = engine.train_epoch(
        network,
        iter(batches),
        F.cross_entropy,
        engine.make_optimizer(network, protocol, CPU),
        torch.amp.GradScaler("cpu", enabled=False),
        dtype=torch.float32,
        clip_norm=clip_norm,
    )
    steps = {
        "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
        "sgd": lambda weights: torch.optim.SGD(weights, lr=0.01, weight_decay=0.1, momentum=0.9, nesterov=True),
    }
    step, wanted, hits = steps[optimizer](oracle.parameters()), [], 0
    for pictures, labels in batches:
        logits = oracle(pictures)
        loss = F.cross_entropy(logits, labels)
        step.zero_grad()
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(oracle.parameters(), clip_norm)
        step.step()
        wanted.append(loss.item())
        hits += (logits.argmax(1) == labels).sum().item()
    assert losses.tolist() == pytest.approx(wanted, rel=1e-5)
    assert accuracy == hits / 80
    for key, value in oracle.state_dict().items():
        assert_close(network.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_clipping_bounds_the_step() -> None:
    def step_length(clip_norm: float | None) -> float:
        network = linear()
        before = torch.cat([value.detach().flatten().clone() for value in network.parameters()])
        data = images()
        engine.train_epoch(
            network,
            iter([(loader.prepare(data.pixels, 16), data.labels)]),
            F.cross_entropy,
            torch.optim.SGD(network.parameters(), lr=1.0),
            torch.amp.GradScaler("cpu", enabled=False),
            dtype=torch.float32,
            clip_norm=clip_norm,
        )
        return (torch.cat([value.detach().flatten() for value in network.parameters()]) - before).norm().item()

    free = step_length(None)
    assert free > 0.1
    assert step_length(0.05) == pytest.approx(0.05, rel=1e-3)
    assert step_length(100.0) == pytest.approx(free)


def test_the_optimisers_are_told_what_params_say() -> None:
    protocol = {**PROTOCOL, "lr": 0.02, "weight_decay": 0.3}
    adamw = engine.make_optimizer(tiny(), protocol, CPU)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["weight_decay"]) == (0.02, 0.3)
    sgd = engine.make_optimizer(tiny(), {**protocol, "optimizer": "sgd"}, CPU)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["weight_decay"]) == (0.9, 0.3)


# The loss

WEIGHTS = torch.tensor([1 / 30, 1 / 10, 1 / 5]) / torch.tensor([1 / 30, 1 / 10, 1 / 5]).mean()
LOSSES: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "plain": ({}, F.cross_entropy),
    "weighted": ({"class_weights": "inverse"}, lambda logits, labels: F.cross_entropy(logits, labels, WEIGHTS)),
    "smoothed": ({"label_smoothing": 0.1}, lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=0.1)),
    "focal": ({"loss": "focal"}, lambda logits, labels: focal_loss(logits, labels, 2.0)),
    "focal and weighted": (
        {"loss": "focal", "focal_gamma": 3.0, "class_weights": "inverse"},
        lambda logits, labels: focal_loss(logits, labels, 3.0, WEIGHTS),
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_the_reported_training_loss_is_the_one_that_params_ask_for(case: str) -> None:
    """One epoch of one batch, without augmentation, starts from the network as it is."""
    changes, oracle = LOSSES[case]
    train = images((30, 10, 5))
    with torch.no_grad():
        wanted = oracle(linear()(loader.prepare(train.pixels, 16)), train.labels).item()
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
    seen: list[engine.Epoch] = []
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
    monkeypatch.setattr(engine, "capabilities", lambda: {"avx512_bf16": True})
    network = networks.build("timm", name="cnn", classes=3, image_size=16, seed=0, pretrained=False, **RESNET18)
    assert engine.sound_precision("auto", CPU, network, 64) == "bf16"
    assert engine.sound_precision("auto", CPU, network, 16) == "fp32"
    with pytest.raises(StageError, match=r"bf16 gives wrong gradients .* \(layer4\.0\.conv1\); choose fp32 or auto"):
        engine.sound_precision("bf16", CPU, network, 16)


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


# Precision


def test_automatic_precision_is_what_the_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert engine.pick_precision("auto", torch.device("cuda")) == wanted
    for able, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert engine.pick_precision("auto", CPU) == wanted
    assert engine.pick_precision("auto", torch.device("mps")) == "fp32"


def test_a_precision_that_was_asked_for_is_taken_or_refused() -> None:
    assert engine.pick_precision("fp32", torch.device("cuda")) == "fp32"
    assert engine.pick_precision("fp16", torch.device("cuda")) == "fp16"
    assert engine.pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(StageError, match=r"^params\.yaml: train\.precision: fp16 needs a GPU; choose bf16 or fp32"):
        engine.pick_precision("fp16", CPU)


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
    cost = measure_cost(timm.create_model("resnet18"), 224, weights)
    assert cost["flops"] / 2e9 == pytest.approx(1.82, abs=0.01)
    assert cost["parameters"] == 11_689_512
    assert cost["weight_bytes"] == 1234


def test_flops_count_a_multiplication_and_an_addition_apart(tmp_path: Path) -> None:
    (tmp_path / "weights").touch()
    cost = measure_cost(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(800, 5)), 10, tmp_path / "weights"
    )
    assert cost["flops"] == 2 * (3 * 3 * 3 * 8 * 100 + 800 * 5)
    assert cost["parameters"] == 3 * 3 * 3 * 8 + 8 + 800 * 5 + 5
