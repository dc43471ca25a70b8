"""How long a model's training takes: a few steps and validation batches are timed, from random weights."""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from pipeline.base.places import FIT, replicate_folder
from pipeline.images import packed
from pipeline.images.recipe import varies
from pipeline.inference import forward
from pipeline.inference.device import memory_remedy, pick_device
from pipeline.inference.loading import construct
from pipeline.params.study import Params
from pipeline.training import fit
from pipeline.training.compiled import compile_remedy, compiled_by
from pipeline.training.task import Task, resolve
from pipeline.training.task import prepared as task_prepared
from pipeline.training.task import trainer as task_trainer

BUDGET = 2.0  # seconds of measuring per model, for training and for validation each
LEAST = 2  # measured steps, however long they take


@dataclass(frozen=True)
class Estimate:
    model: str
    device: str
    step_ms: float  # as train.compile has it; uncompiled where both were asked for
    compiled_ms: float | None  # where both were asked for
    compilation: float | None  # seconds
    images_per_second: float
    epochs: int
    steps: int  # of an epoch
    seconds: float  # of one training
    trainings: int
    trials: int  # of settings, finalists among them
    trial_seconds: float  # of all of these

    @property
    def total(self) -> float:
        return self.seconds * self.trainings + self.trial_seconds

    def of(self, epochs: int) -> "Estimate":
        """The same training with another number of epochs."""
        share = epochs / self.epochs
        seconds, trials = self.seconds * share, self.trial_seconds * share
        return dataclasses.replace(self, epochs=epochs, seconds=seconds, trial_seconds=trials)

    @property
    def pays_from(self) -> int | None:
        """The number of epochs that torch.compile pays from; None where it never does, or was not measured."""
        if self.compiled_ms is None or self.compilation is None or self.compiled_ms >= self.step_ms:
            return None
        return math.ceil(self.compilation / (self.steps * (self.step_ms - self.compiled_ms) / 1000))


def measure(settings: Params, name: str, compiled: bool = False) -> Estimate:
    """Time a model's steps as `train.compile` has them; if `compiled`, both uncompiled and compiled."""
    task, config, device = prepared(settings, name)
    size, epochs, val = config["train"]["batch_size"], config["train"]["epochs"], task.val_images
    with memory_remedy(f"halve train.batch_size (now {size}) or choose a smaller dataset.image_size"):
        trainer = task_trainer(task, config, device)
        trainer.network.train()
        taken = steps(trainer)
        compiles = config["train"]["compile"] != "none"
        plain = timed(lambda: next(taken), device) if compiled or not compiles else None
        batch = 0.0
        if val is not None:
            part, form = packed.rows(val, slice(size)), task.recipe.format
            batch = timed(lambda: forward.predict(trainer.network, part, form, device, size), device)
        compilation, fast = with_compiler(trainer, taken) if compiled or compiles else (0.0, 0.0)
        step = fast if plain is None else plain
    val_batches = -(-len(val) // size) if val is not None else 0
    seconds = epochs * (trainer.per_epoch * (fast if compiles else step) + val_batches * batch)
    trials, whole = tried(settings, name)
    return Estimate(
        model=name,
        device=device.type,
        step_ms=step * 1000,
        compiled_ms=fast * 1000 if compiled else None,
        compilation=compilation if compiled else None,
        images_per_second=min(size, len(task.train_images)) / step,
        epochs=epochs,
        steps=trainer.per_epoch,
        seconds=seconds,
        trainings=len(settings.replicates),
        trials=trials,
        trial_seconds=seconds * whole,
    )


def tried(settings: Params, name: str) -> tuple[int, float]:
    """How many trials a model's search takes, finalists among them, and how many whole trainings they are worth."""
    if not settings.tuned(name):
        return 0, 0.0
    trials, finalists = len(settings.tune.trials), len(settings.tune.finalists)
    share = settings.tune.short_epochs / settings.model_train(name).epochs if finalists else 1.0
    return trials + finalists, trials * share + finalists


def prepared(settings: Params, name: str) -> tuple[Task, dict[str, Any], torch.device]:
    """What a model's first training works on, its resolved configuration and the device; weights are random."""
    replicate = settings.replicates[0]
    folder = replicate_folder(FIT, replicate)
    info = packed.read_info(folder)
    config = resolve(settings, name, replicate, info)
    config["network"]["pretrained"] = False  # no download: the values of weights take no time
    device = pick_device(config["train"]["device"])
    task = task_prepared(config, folder, info, settings.dataset.normalise, device)
    taught_by = settings.teachers_of(name, replicate) if varies(task.recipe) else []  # else they look once
    teachers = [untrained(settings, each, info) for each in taught_by]
    return replace(task, teachers=teachers), config, device


def untrained(settings: Params, training: str, info: dict[str, Any]) -> torch.nn.Module:
    """The network of a training, such as cnn-0, as it starts."""
    model, _, replicate = training.rpartition("-")
    config = resolve(settings, model, int(replicate), info)
    config["network"]["pretrained"] = False
    return construct(config, info, settings.dataset.normalise)[0]


def steps(trainer: fit.Trainer) -> Iterator[Any]:
    """Training steps without an end, each taken when it is asked for."""
    for batch in itertools.chain.from_iterable(map(trainer.batches, itertools.count())):
        yield trainer.step(batch, trainer.protocol["lr"])


def with_compiler(trainer: fit.Trainer, taken: Iterator[Any]) -> tuple[float, float]:
    """Seconds of compilation, as `train.compile` has it or else by torch, and of a step from then on."""
    mode = trainer.protocol["compile"]
    if mode == "none":
        mode = "reduce-overhead" if trainer.device.type == "cuda" else "default"
    with compile_remedy(mode):
        started = time.perf_counter()
        trainer.step.network = cast(nn.Module, compiled_by(mode, trainer.network.train()))  # of mode none alone None
        next(taken)
        compilation = time.perf_counter() - started
        return compilation, timed(lambda: next(taken), trainer.device)


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Median seconds of a call, after a first one that is not counted."""
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) <= LEAST or time.perf_counter() - begun < BUDGET:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
