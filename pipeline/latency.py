"""How long a forward pass takes on the CPU, in float32, images prepared: in PyTorch, and in ONNX Runtime if wanted."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pipeline import inference, loader, onnx_model, params

CPU = torch.device("cpu")
BATCH = 128
SECONDS = 20  # at most, of each runtime
ALONE = 50  # images timed one at a time


def measure(network: nn.Module, images: loader.Images, form: loader.Format, onnx: bool) -> dict[str, float | int]:
    """Milliseconds per image in batches of `cpu_batch` and for one alone, `cpu_ms_...` and with `onnx` `onnx_ms_...`.

    Both runtimes take as many threads as PyTorch does. `onnx_differing` is how many of the test images ONNX Runtime
    finds another class likeliest for; of several crops it is the central one that counts.
    """
    network = network.cpu().eval().to(memory_format=torch.channels_last)
    batches = functools.partial(loader.view_batches, images, form, BATCH, CPU)
    with torch.inference_mode():
        per_image, alone, seen = _milliseconds(lambda views: inference.score(network, views), batches())
    found: dict[str, float | int] = {
        "cpu_ms_per_image": per_image,
        "cpu_ms_alone": alone,
        "cpu_images": seen,
        "cpu_batch": BATCH,
        "cpu_threads": torch.get_num_threads(),
    }
    if not onnx:
        return found
    params.require_onnx("params.yaml: evaluate.onnx: true")
    session = onnx_model.runtime(onnx_model.convert(network, form).SerializeToString())
    agreement = onnx_model.compare(session, network, loader.test_batches(images, form, BATCH, CPU))
    ready = ([view.contiguous() for view in views] for views in batches())
    per_image, alone, _ = _milliseconds(lambda views: [onnx_model.run(session, view) for view in views], ready)
    return found | {"onnx_ms_per_image": per_image, "onnx_ms_alone": alone, "onnx_differing": agreement.differing}


def _milliseconds(score: Callable[[list[Tensor]], object], batches: Iterator[list[Tensor]]) -> tuple[float, float, int]:
    """Per image in batches, for one alone, and over how many images the former is.

    An image's pass goes over all its views. Medians, which leave out what else the machine was doing; over all test
    images, or as many as SECONDS allow.
    """

    def seconds(views: list[Tensor]) -> float:
        started = time.perf_counter()
        score(views)
        return time.perf_counter() - started

    first = next(batches)
    few = [view[:ALONE] for view in first]
    seconds(first), seconds([view[:1] for view in few])  # the first calls choose kernels
    alone = [seconds([view[index : index + 1] for view in few]) for index in range(len(few[0]))]
    times, seen, started = [], 0, time.perf_counter()
    for views in itertools.chain([first], batches):
        times.append(seconds(views) / len(views[0]))
        seen += len(views[0])
        if time.perf_counter() - started > SECONDS:
            break
    return statistics.median(times) * 1000, statistics.median(alone) * 1000, seen
