"""How long a forward pass takes on the CPU, in float32, images prepared: in PyTorch, and in ONNX Runtime if wanted.

All networks of the study are timed in one process, one after the other and that ROUNDS times over, so that whatever
else the machine does meets all of them; equal networks then come to equal times. The networks are as they start: the
time does not depend on what the weights are, and so the stage needs no training; a margin that the whole study is given
later changes the classifiers' time by too little to measure again. Leaves reports/latency.json.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import FIT, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images import packed
from pipeline.images.form import Format, view_batches
from pipeline.inference import device, forward, loading
from pipeline.params.study import Params
from pipeline.params.trials import tuned_params
from pipeline.tracking import runs
from pipeline.trained import onnx

FOUND = Path("reports/latency.json")
CPU = torch.device("cpu")
BATCH = onnx.BATCH
ROUNDS = 5
SECONDS = 4.0  # at most, of each network, runtime and round
ALONE = 20  # images timed one at a time in each round
Score = Callable[[list[Tensor]], object]


@dataclass(frozen=True)
class Timed:
    """What is timed: a pass over the views of a batch, and how it wants its images."""

    score: Score
    form: Format
    contiguous: bool = False


def main() -> None:
    device.keep_freed_memory()
    study = tuned_params()
    fit, test = (replicate_folder(place, study.replicates[0]) for place in (FIT, TEST))
    info, images = packed.read_info(fit), packed.read(test)
    timed: dict[tuple[str, str], Timed] = {}
    for name in study.models:
        network, form = loading.construct(configuration(study, name), info, study.dataset.normalise)
        timed[name, "cpu"] = in_pytorch(network, form)
        if study.evaluate.onnx:
            timed[name, "onnx"] = in_onnx_runtime(name, network, form)
    found = measure(timed, images)
    result = {
        "processor": device.processor(),
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "models": found,
    }
    with written_whole(FOUND) as partial:
        write_json(partial, result)
    with runs.report_run("latency") as tracked:
        tracked.metrics(
            {
                f"{name}/{key}": statistics.fmean(values)
                for name, times in found.items()
                for key, values in times.items()
                if isinstance(values, list)
            }
        )
        tracked.artifact(FOUND)
    told = (f"{name} {statistics.fmean(times['cpu_ms_per_image']):.3g} ms" for name, times in found.items())
    print(f"latency: of an image in batches of {BATCH}, n = {ROUNDS} rounds: {', '.join(told)}")


def configuration(study: Params, name: str) -> dict[str, Any]:
    """What decides how long a network takes; no weights are downloaded for it."""
    return {
        "model": name,
        "replicate": 0,
        "image_size": study.dataset.image_size,
        "augment": study.model_augment(name).model_dump(),
        "network": {**study.network(name), "pretrained": False},
    }


def in_pytorch(network: nn.Module, form: Format) -> Timed:
    network = network.cpu().eval().to(memory_format=torch.channels_last)
    return Timed(lambda views: forward.score(network, views), form)


def in_onnx_runtime(name: str, network: nn.Module, form: Format) -> Timed:
    """With as many threads as PyTorch takes. Raises StageError where the network cannot be written as ONNX."""
    try:
        session = onnx.session(network.eval(), form)
    except StageError as error:
        raise StageError(f"models.{name}: {error}; choose evaluate.onnx: false") from None
    return Timed(lambda views: [onnx.run(session, view) for view in views], form, contiguous=True)


def measure(timed: Mapping[tuple[str, str], Timed], images: packed.Images) -> dict[str, dict[str, Any]]:
    """Milliseconds per image by model, a value per round: in batches and for one alone, by runtime ("cpu", "onnx").

    `cpu_images` is how many images the batches of a round went over: all, or as many as SECONDS allow.
    """
    found: dict[str, dict[str, Any]] = {}
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            for (name, runtime), each in timed.items():
                batches = functools.partial(view_batches, images, each.form, BATCH, CPU)
                if not number:  # the first calls choose kernels
                    each.score(next(_ready(each, batches())))
                    continue
                per_image, alone, seen = _milliseconds(each.score, _ready(each, batches()))
                times = found.setdefault(name, {})
                times.setdefault(f"{runtime}_ms_per_image", []).append(per_image)
                times.setdefault(f"{runtime}_ms_alone", []).append(alone)
                if runtime == "cpu":
                    times["cpu_images"] = min(seen, times.get("cpu_images", seen))
    return found


def _ready(timed: Timed, batches: Iterator[list[Tensor]]) -> Iterator[list[Tensor]]:
    for views in batches:
        yield [view.contiguous() for view in views] if timed.contiguous else views


def _milliseconds(score: Score, batches: Iterator[list[Tensor]]) -> tuple[float, float, int]:
    """Per image in batches, for one alone, and over how many images the former is.

    An image's pass goes over all its views. Medians, which leave out what else the machine was doing.
    """

    def seconds(views: list[Tensor]) -> float:
        started = time.perf_counter()
        score(views)
        return time.perf_counter() - started

    first = next(batches)
    few = [view[:ALONE] for view in first]
    seconds([view[:1] for view in few])  # what the network before left in the caches is gone then
    alone = [seconds([view[index : index + 1] for view in few]) for index in range(len(few[0]))]
    times, seen, started = [], 0, time.perf_counter()
    for views in itertools.chain([first], batches):
        times.append(seconds(views) / len(views[0]))
        seen += len(views[0])
        if time.perf_counter() - started > SECONDS:
            break
    return statistics.median(times) * 1000, statistics.median(alone) * 1000, seen


if __name__ == "__main__":
    run(main)
