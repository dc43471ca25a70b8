"""How long a study will take: `versus estimate`.

Each model takes a few training steps and a few validation batches at the study's own settings, from random weights.
What that leaves out stands below the table.
"""

import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.base.places import fold_folder, study
from pipeline.images import packed
from pipeline.inference import forward
from pipeline.inference.device import keep_freed_memory, memory_remedy, pick_device
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.stages import train
from pipeline.training import fit
from pipeline.training.compiled import compile_remedy, compiled_by
from pipeline.training.task import Task, resolve
from pipeline.training.task import prepared as task_prepared
from pipeline.training.task import trainer as task_trainer

BUDGET = 2.0  # seconds of measuring per model, for training and for validation each
LEAST = 2  # measured steps, however long they take
LEFT_OUT = (
    "Left out: evaluation (a pass over the test images for each training), latency (five rounds of up to 4 s and a"
    " batch for each model, and as much again in ONNX Runtime), the first epoch's warming up, downloads, a few seconds"
    " for each stage to start, and whatever else the machine does. What DVC has in its cache takes no time."
)


@dataclass(frozen=True)
class Estimate:
    model: str
    device: str
    step_ms: float
    compiled_ms: float | None  # where it was asked for
    compilation: float | None  # seconds
    images_per_second: float
    epochs: int
    steps: int  # of an epoch
    seconds: float  # of one training
    trainings: int

    @property
    def total(self) -> float:
        return self.seconds * self.trainings

    @property
    def pays_from(self) -> int | None:
        """The number of epochs that torch.compile pays from; None where it never does, or was not measured."""
        if self.compiled_ms is None or self.compilation is None or self.compiled_ms >= self.step_ms:
            return None
        return math.ceil(self.compilation / (self.steps * (self.step_ms - self.compiled_ms) / 1000))


def estimate(as_json: bool = False, compiled: bool = False) -> None:
    """Print a line for each model and the sum; if `compiled`, from how many epochs on torch.compile would pay."""
    keep_freed_memory()
    settings = load_params()
    found = []
    for number, name in enumerate(settings.models, 1):
        print(f"measuring {name}, {number} of {len(settings.models)}", file=sys.stderr, flush=True)
        found.append(measure(settings, name, compiled))
    total = sum(each.total for each in found)
    if as_json:
        plain = [{**vars(each), "total_seconds": each.total, "pays_from": each.pays_from} for each in found]
        print(json.dumps({"study": study(), "models": plain, "total_seconds": total, "note": LEFT_OUT}, indent=2))
        return
    print(table(found, compiled))
    print(f"\n{study()}: about {span(total)} of training, one after the other.\n{LEFT_OUT}")


def table(found: list[Estimate], compiled: bool) -> str:
    """A line for each model; if `compiled`, with what torch.compile would gain."""
    from tabulate import tabulate

    rows = [
        [
            each.model,
            each.device,
            f"{each.step_ms:.3g} ms",
            f"{each.images_per_second:,.0f}",
            each.epochs,
            span(each.seconds),
            each.trainings,
            span(each.total),
            *([f"{each.compiled_ms:.3g} ms", span(each.compilation or 0), worth(each.pays_from)] if compiled else []),
        ]
        for each in found
    ]
    header = ["model", "device", "step", "images/s", "epochs", "one training", "trainings", "together"]
    header += ["compiled step", "compilation", "pays"] * compiled
    align = ("left", "left", *["right"] * (len(header) - 2))
    return tabulate(rows, headers=header, colalign=align, disable_numparse=True)


def measure(settings: Params, name: str, compiled: bool = False) -> Estimate:
    """Time a model's steps as train would take them; if `compiled`, also with torch.compile."""
    task, config, device = prepared(settings, name)
    size, epochs, val = config["train"]["batch_size"], config["train"]["epochs"], task.val_images
    with memory_remedy(f"halve train.batch_size (now {size}) or choose a smaller dataset.image_size"):
        trainer = task_trainer(task, config, device)
        trainer.network.train()
        taken = steps(trainer)
        step, batch = timed(lambda: next(taken), device), 0.0
        if val is not None:
            part, form = packed.rows(val, slice(size)), task.recipe.format
            batch = timed(lambda: forward.predict(trainer.network, part, form, device, size), device)
        compilation, fast = with_compiler(trainer, taken) if compiled else (None, None)
    val_batches = -(-len(val) // size) if val is not None else 0
    return Estimate(
        model=name,
        device=device.type,
        step_ms=step * 1000,
        compiled_ms=fast * 1000 if fast is not None else None,
        compilation=compilation,
        images_per_second=min(size, len(task.train_images)) / step,
        epochs=epochs,
        steps=trainer.per_epoch,
        seconds=epochs * (trainer.per_epoch * step + val_batches * batch),
        trainings=len(settings.replicates),
    )


def prepared(settings: Params, name: str) -> tuple[Task, dict[str, Any], torch.device]:
    """What a model's first training works on, its resolved configuration and the device; weights are random."""
    replicate = settings.replicates[0]
    folder = fold_folder(train.FIT, replicate)
    info = packed.read_info(folder)
    config = resolve(settings, name, replicate, info)
    config["network"]["pretrained"] = False  # no download: the values of weights take no time
    device = pick_device(config["train"]["device"])
    return task_prepared(config, folder, info, settings.dataset.normalise, device), config, device


def steps(trainer: fit.Trainer) -> Iterator[Any]:
    """Training steps without an end, each taken when it is asked for."""
    for batch in itertools.chain.from_iterable(map(trainer.batches, itertools.count())):
        yield trainer.step(batch, trainer.protocol["lr"])


def with_compiler(trainer: fit.Trainer, taken: Iterator[Any]) -> tuple[float, float]:
    """The seconds that torch.compile takes, and those of a step from then on."""
    mode = "reduce-overhead" if trainer.device.type == "cuda" else "default"
    with compile_remedy(mode):
        trainer.step.network = compiled_by(mode, trainer.network.train()) or trainer.network
        started = time.perf_counter()
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


def worth(epochs: int | None) -> str:
    """When torch.compile pays, in words."""
    return "never" if epochs is None else f"from {epochs:,} epoch{'s' * (epochs > 1)}"


def span(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min"""
    if seconds < 99.5:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"
