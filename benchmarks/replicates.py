"""Replicates: two trainings at once, pinned to a core each as `versus launch --workers 2` does, against one after the
other on both cores; images a second, imports aside. Each replicate at once must leave the weights that it leaves alone.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from benchmarks import stepping
from benchmarks.bench import Row, Worker, compare, seconds
from benchmarks.feeding import recipe_for
from pipeline.base import places
from pipeline.base.code import PACKAGE
from pipeline.images import packed
from pipeline.inference.device import keep_freed_memory
from pipeline.launch import slots
from pipeline.training import fit, precision

TARGETS = {stepping.CIFAR: (">= 1.35", "CIFAR-10's"), stepping.MNIST: (">= 1.6", "MNIST's")}
EPOCHS = 2


def trainer(case: stepping.Case, cores: Sequence[int], device: str = "cpu") -> Callable[[int], str]:
    """A function that trains a replicate on these cores and returns a digest of its weights."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    keep_freed_memory()
    pixels = torch.from_numpy(stepping.pixels_of(case))
    images = packed.Images(pixels, torch.arange(len(pixels)) % 10)
    recipe = recipe_for(case.side, case.channels, case.amplitudes, classes=10, device=device)
    chosen = {"epochs": EPOCHS, "batch_size": case.batch_size, "lr": 0.001}
    protocol = {**defaults(), **chosen, "precision": precision.pick_precision("auto", torch.device(device))}

    def train(replicate: int) -> str:
        trainer = fit.Trainer(
            stepping.network_of(case),
            images,
            packed.rows(images, slice(case.batch_size)),
            recipe,
            protocol,
            classes=10,
            seed=replicate,
            device=torch.device(device),
        )
        return digest(trainer.run().weights)

    return train


def defaults() -> dict[str, Any]:
    """`train` of params.yaml where it names nothing, by the schema: on a pack's machine there is no pydantic."""
    schema = json.loads((PACKAGE.parent / "params.schema.json").read_text(encoding="utf-8"))
    keys = schema["$defs"]["Train"]["properties"]
    return {key: about["default"] for key, about in keys.items() if "default" in about}


def digest(weights: dict[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(weights[key].numpy().tobytes() for key in sorted(weights))).hexdigest()


def together(workers: Sequence[Worker]) -> list[str]:
    """Replicates 0, 1, ... one on each worker at the same time."""
    for replicate, worker in enumerate(workers):
        worker.begin(replicate)
    return [worker.result() for worker in workers]


def rows() -> Iterator[Row]:
    cores = places.cores()
    pair = slots.slots(2, 1, [], cores)
    for case, (target, whose) in TARGETS.items():
        with ExitStack() as stack:
            pinned = [stack.enter_context(Worker(trainer, case, slot.cores)) for slot in pair]
            both = stack.enter_context(Worker(trainer, case, cores))
            alone = [worker(replicate) for replicate, worker in enumerate(pinned)]
            images = len(alone) * EPOCHS * case.batches * case.batch_size

            def at_once(pinned: list[Worker] = pinned, alone: list[str] = alone, images: int = images) -> float:
                found: list[str] = []
                spent = seconds(lambda: found.extend(together(pinned)))
                assert found == alone, "a replicate differs from its solo run"
                return images / spent

            def in_turn(both: Worker = both, images: int = images, count: int = len(alone)) -> float:
                return images / seconds(lambda: [both(replicate) for replicate in range(count)])

            what = f"two replicates at once, a core each: {whose} {case.size}"
            yield compare(what, "images/s", at_once, in_turn, target, note="each equals its solo run")
