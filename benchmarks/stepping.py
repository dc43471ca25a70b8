"""Stepping: images a second of training as train does it, against the same step on one batch that lies ready."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.bench import Row, compare, rate
from benchmarks.feeding import recipe_for
from pipeline import engine, inference, loader, networks

SEPARABLE = ["conv 16, conv 16", "pool, dw 32, conv 32", "pool, dw 64, conv 64", "pool, dw 128, dw 192, dw 260"]
SMALLEST = ["conv 8, dw 12, transition 8", "pool, dw 12, dw 16, transition 12", "pool, dw 15"]
CASES: dict[str, tuple[dict[str, Any], int, int, dict[str, Any]]] = {  # network, side, channels, augmentation
    "143,396 parameters, shift and flip, 32 px": (
        {"family": "tiny", "layers": SEPARABLE, "in_channels": 3, "bias": True},
        32,
        3,
        {"shift": 0.125},
    ),
    "1,560 parameters, shift, 28 px": ({"family": "tiny", "layers": SMALLEST, "in_channels": 1}, 28, 1, {"shift": 0.1}),
}
PROTOCOL = {
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "clip_norm": None,
    "sam": 0.0,
    "margin": "none",
    "center_loss": 0.0,
}


def rows() -> Iterator[Row]:
    inference.keep_freed_memory()
    device, batch_size, epochs = torch.device("cpu"), 128, itertools.count()
    for what, (network, side, channels, amplitudes) in CASES.items():
        net = networks.build(name="bench", classes=10, image_size=side, seed=0, **network)
        net = net.to(memory_format=torch.channels_last).train()
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (batch_size * 32, side, side, channels), dtype=np.uint8)
        images = loader.Images(torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, len(pixels))))
        recipe = recipe_for(side, channels, amplitudes, classes=10)
        protocol = {**PROTOCOL, "precision": engine.pick_precision("auto", device)}
        step = engine.Step(net, F.cross_entropy, engine.make_optimizer(net, protocol, device), device, protocol, 10)
        order = {"sampler": "shuffle", "batch_size": batch_size, "seed": 0, "device": device}
        ready = next(loader.train_batches(images, recipe, epoch=0, **order))

        def ours(step: Any = step, images: Any = images, recipe: Any = recipe, order: Any = order) -> int:
            for batch in loader.train_batches(images, recipe, epoch=next(epochs), **order):
                step(batch, 0.001)
            return len(images)

        def peer(step: Any = step, ready: Any = ready, count: int = len(images) // batch_size) -> int:
            for _ in range(count):
                step(ready, 0.001)
            return count * batch_size

        threads = torch.get_num_threads()
        yield compare(
            f"stepping: {what}, {threads} thread{'s' * (threads > 1)}",
            "images/s",
            lambda ours=ours: rate(ours),
            lambda peer=peer: rate(peer),
            ">= 0.95",
        )
