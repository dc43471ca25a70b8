"""Stepping: images a second of training as train does it, against the same step on one batch that lies ready."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.bench import Row, compare, few, rate
from benchmarks.feeding import recipe_for
from pipeline import networks
from pipeline.images import packed
from pipeline.images.batches import train_batches
from pipeline.inference.device import keep_freed_memory
from pipeline.training import compiled, precision
from pipeline.training.step import Step, make_optimizer

SEPARABLE = ["conv 16, conv 16", "pool, dw 32, conv 32", "pool, dw 64, conv 64", "pool, dw 128, dw 192, dw 260"]
SMALLEST = ["conv 8, dw 12, transition 8", "pool, dw 12, dw 16, transition 12", "pool, dw 15"]


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the images that it trains on, and how they are augmented."""

    what: str
    network: dict[str, Any]
    side: int
    channels: int
    amplitudes: dict[str, float]
    batches: int = few(32, 1)  # of an epoch
    batch_size: int = 128
    compile: str = "none"  # `train.compile`, where `versus estimate --compile` says that it pays

    @property
    def name(self) -> str:
        return self.what + {"none": "", "fused": ", fused"}.get(self.compile, ", compiled")

    @property
    def size(self) -> str:
        return self.what.split(", shift")[0]


CIFAR = Case(
    "143,396 parameters, shift and flip, 32 px",
    {"family": "tiny", "layers": SEPARABLE, "in_channels": 3, "bias": True},
    32,
    3,
    {"shift": 0.125},
    compile=few("fused", "none"),
)
MNIST = Case(
    "1,560 parameters, shift, 28 px",
    {"family": "tiny", "layers": SMALLEST, "in_channels": 1},
    28,
    1,
    {"shift": 0.1},
    compile=few("fused", "none"),
)
RESNET = Case(
    "ResNet18, shift and flip, 64 px",
    {"family": "timm", "backbone": "resnet18"},
    64,
    3,
    {"shift": 0.125},
    batches=few(4, 1),
)
CASES = (CIFAR, MNIST, RESNET)
PROTOCOL: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "clip_norm": None,
    "sam": 0.0,
    "margin": "none",
    "center_loss": 0.0,
    "fast": True,
}


def pixels_of(case: Case) -> np.ndarray:
    """Noise, uint8 (N, S, S, C)."""
    shape = (case.batch_size * case.batches, case.side, case.side, case.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def network_of(case: Case) -> torch.nn.Module:
    return networks.build(name="bench", classes=10, image_size=case.side, seed=0, **case.network)


def stepper(case: Case, device: torch.device) -> tuple[torch.nn.Module, Step]:
    """A new network, and what takes its steps as train would."""
    protocol = {**PROTOCOL, "precision": precision.pick_precision("auto", device)}
    net = compiled.placed(network_of(case), device, protocol["fast"]).train()
    step = Step(net, F.cross_entropy, make_optimizer(net, protocol, device), device, protocol, 10)
    step.network = compiled.compiled_by(case.compile, net) or net
    return net, step


def sides(case: Case, device: torch.device) -> tuple[Callable[[], int], Callable[[], int]]:
    """An epoch as train takes it, and as many steps on a fixed batch: functions that return how many images it were."""
    pixels = torch.from_numpy(pixels_of(case))
    images = packed.resident(packed.Images(pixels, torch.arange(len(pixels)) % 10), device)
    recipe = recipe_for(case.side, case.channels, case.amplitudes, classes=10, device=device.type)
    _, step = stepper(case, device)
    order = {"sampler": "shuffle", "batch_size": case.batch_size, "seed": 0, "device": device}
    ready, epochs = next(train_batches(images, recipe, epoch=0, **order)), itertools.count()
    step(ready, 0.001)  # compiles

    def train() -> int:
        for batch in train_batches(images, recipe, epoch=next(epochs), **order):
            step(batch, 0.001)
        finish(device)
        return len(images)

    def fixed() -> int:
        for _ in range(case.batches):
            step(ready, 0.001)
        finish(device)
        return len(images)

    return train, fixed


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(case: Case, device: torch.device, target: str) -> Row:
    train, fixed = sides(case, device)
    what = f"stepping: {case.name}, {place(device)}"
    return compare(what, "images/s", lambda: rate(train), lambda: rate(fixed), target)


def place(device: torch.device) -> str:
    threads = torch.get_num_threads()
    return device.type if device.type != "cpu" else f"{threads} thread{'s' * (threads > 1)}"


def rows() -> Iterator[Row]:
    keep_freed_memory()
    for case in CASES:
        yield row(case, torch.device("cpu"), ">= 0.95")
