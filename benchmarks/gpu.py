"""What needs a GPU: stepping against a fixed batch, training against timm's loop, replicates at once against one.

Not among the rows: cifar10-airbench's script (github.com/KellerJordan/cifar10-airbench), which trains one network of
its own to 94% of CIFAR-10's test images. To compare with it, run it on the same GPU with the official images, and here
a model of that network at its batch size and epochs: seconds from the first step to the last, without evaluation, the
median of five runs after one that compiles.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch

from benchmarks import plain, stepping
from benchmarks.bench import Row, Worker, compare, seconds
from benchmarks.replicates import together, trainer
from pipeline.base import places
from pipeline.launch import slots
from pipeline.launch.slots import Slot

CIFAR = dataclasses.replace(stepping.CIFAR, batches=256, compile="none")
MNIST = dataclasses.replace(stepping.MNIST, batches=256, compile="default")
LARGE = {"side": 224, "channels": 3, "amplitudes": {"crop": 0.9, "aspect": 0.25}, "batches": 8}
RESNET = stepping.Case("ResNet18, crop and flip, 224 px", network={"family": "timm", "backbone": "resnet18"}, **LARGE)
VIT = stepping.Case(
    "ViT-S, crop and flip, 224 px", network={"family": "timm", "backbone": "vit_small_patch16_224"}, **LARGE
)
HYBRID = stepping.Case(
    "hybrid, crop and flip, 224 px", network={"family": "hybrid", "backbone": "resnet18", "feature_level": 3}, **LARGE
)
STEPPING = {CIFAR: ">= 0.9", MNIST: ">= 0.9", RESNET: ">= 0.97", VIT: ">= 0.97", HYBRID: ">= 0.97"}
TRAINING = {CIFAR: ">= 10", MNIST: ">= 10", RESNET: ">= 1.5", VIT: ">= 1"}
REPLICATES = 8  # fewer where there are fewer cores: each wants one


def rows() -> Iterator[Row]:
    if not torch.cuda.is_available():
        sys.exit(
            "versus: make bench-gpu needs a CUDA GPU, and this machine has none; make bench measures the CPU's rows"
        )
    device, cores = torch.device("cuda"), places.cores()
    for case, target in STEPPING.items():
        yield stepping.row(case, device, target)
    for case, target in TRAINING.items():
        yield plain.row(case, device, target, (4, min(8, len(cores)), len(cores)))
    for case in (CIFAR, MNIST):
        yield at_once(case, "cuda", slots.slots(min(REPLICATES, len(cores)), 1, ["0"], cores))


def at_once(case: stepping.Case, device: str, slots: Sequence[Slot]) -> Row:
    """Seconds of as many replicates at once as there are slots, and of one alone."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(trainer, case, slot.cores, device)) for slot in slots]
        what = f"{len(slots)} replicates at once against one: {case.what}"
        return compare(
            what, "s", lambda: seconds(lambda: together(workers)), lambda: seconds(lambda: workers[0](0)), "<= 1.5"
        )
