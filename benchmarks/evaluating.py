"""Evaluating: ONNX Runtime against PyTorch eager, one image at a time, and ten crops against the same passes on views
that lie ready.

Both networks are trained for a moment first. Both runtimes must name the same class for all 10,000 test images; where a
row is of 8-bit integers, it says for how many they do.
"""

import dataclasses
import io
import itertools
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import stepping
from benchmarks.bench import SHORT, Row, compare, few, rate
from benchmarks.feeding import recipe_for
from pipeline.datasets.source import provided
from pipeline.images import packed
from pipeline.images.batches import train_batches
from pipeline.images.form import Format, evaluation_batches, prepare, view_batches
from pipeline.inference import forward
from pipeline.inference.device import keep_freed_memory
from pipeline.stages import latency
from pipeline.trained import filled, int8, onnx

TARGETS = {stepping.CIFAR: ("cifar10", ">= 14"), stepping.MNIST: ("mnist", ">= 30")}
IN_INTEGERS = (stepping.CIFAR,)  # the smaller network takes longer so
TRAINED, TESTED = few(10_000, 256), few(10_000, 256)  # images
PASSES = few(100, 1)


def images(name: str, split: str, count: int, case: stepping.Case) -> packed.Images:
    """`count` images of an archive, spread over all of a split, or noise where VERSUS_DATASETS has none."""
    path = provided(name)
    if path is None:
        print(f"evaluating: noise instead of {name}, for VERSUS_DATASETS names no folder with it", file=sys.stderr)
        shape = (count, case.side, case.side, case.channels)
        pixels = np.random.default_rng(len(split)).integers(0, 256, shape, dtype=np.uint8)
        return packed.Images(torch.from_numpy(pixels), torch.arange(count) % 10)
    with zipfile.ZipFile(path) as archive:
        paths = sorted(path for path in archive.namelist() if path.startswith(f"{split}/") and not path.endswith("/"))
        classes = sorted({path.split("/")[1] for path in paths})
        taken = [paths[row] for row in np.linspace(0, len(paths) - 1, count).round().astype(int)]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(path)))) for path in taken]
    pixels = np.stack(pictures).reshape(count, case.side, case.side, case.channels)
    return packed.Images(torch.from_numpy(pixels), torch.tensor([classes.index(path.split("/")[1]) for path in taken]))


def trained(case: stepping.Case, train: packed.Images) -> tuple[torch.nn.Module, Format]:
    """The network after one epoch."""
    device = torch.device("cpu")
    network, step = stepping.stepper(dataclasses.replace(case, compile="none"), device)  # too few steps to pay
    recipe = recipe_for(case.side, case.channels, {}, classes=10)
    order = {"sampler": "shuffle", "batch_size": case.batch_size, "seed": 0, "epoch": 0, "device": device}
    for batch in train_batches(train, recipe, **order):
        step(batch, 0.003)
    return network.eval(), recipe.format


def rows() -> Iterator[Row]:
    keep_freed_memory()
    for case, (name, target) in TARGETS.items():
        train = images(name, "train", TRAINED, case)
        network, form = trained(case, train)
        test = images(name, "test", TESTED, case)
        one, plain = prepare(test.pixels[:1], form), onnx.convert(network, form)
        content, peer = filled.fill(plain).SerializeToString(), in_pytorch(network, one)
        yield alone(case.size, content, one, peer, target, same_classes(content, network, form, test))
        if case in IN_INTEGERS:
            batches = evaluation_batches(packed.rows(train, slice(int8.IMAGES)), form, latency.BATCH, latency.CPU)
            content = int8.quantise(plain, batches).SerializeToString()
            found = agreement(content, network, form, test)
            yield alone(f"{case.size}, 8-bit integers", content, one, peer, target, found)
        yield ten_crops(case, network, test)


def same_classes(content: bytes, network: torch.nn.Module, form: Format, test: packed.Images) -> str:
    found = onnx.compare(onnx.runtime(content), network, evaluation_batches(test, form, latency.BATCH, latency.CPU))
    assert not found.differing, f"{found.differing} of {found.images} images have another class in ONNX Runtime"
    return f"the same class for all {found.images:,} test images, logits differ by {found.difference:.0e} at most"


def agreement(content: bytes, network: torch.nn.Module, form: Format, test: packed.Images) -> str:
    session, labels = onnx.runtime(content), test.labels.numpy()
    batches = [*evaluation_batches(test, form, latency.BATCH, latency.CPU)]
    got, wanted = (
        np.concatenate([onnx.run(model, batch).argmax(1) for batch in batches]) for model in (session, network)
    )
    return (
        f"the same class for {(got == wanted).sum():,} of {len(test):,} test images; accuracy"
        f" {(got == labels).mean():.2%}, PyTorch's {(wanted == labels).mean():.2%}"
    )


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side of a row does best with, and its images a second."""

    what: str
    rate: Callable[[], float]


def best(sides: Mapping[str, Callable[[], float]]) -> Side:
    return Side(*max(sides.items(), key=lambda side: side[1]()))


def alone(what: str, content: bytes, one: Tensor, peer: Side, target: str, found: str) -> Row:
    """One image at a time, against PyTorch; waking a second thread may cost more than it saves."""
    many = torch.get_num_threads()
    sessions = {threads: onnx.runtime(content, threads) for threads in sorted({1, many})}
    ours = best({f"{threads} of {many} threads": partial(a_second, each, one) for threads, each in sessions.items()})
    with ThreadPoolExecutor(many) as pool:
        together = rate(lambda: sum(pool.map(lambda _: passes(sessions[1], one), range(many))))
    return compare(
        f"ONNX Runtime against PyTorch, one image at a time: {what}",
        "images/s",
        ours.rate,
        peer.rate,
        target,
        note=f"{ours.what} in ONNX Runtime, {peer.what}; {found}; {together:,.0f} images/s where each of {many} threads"
        " has an image of its own",
    )


def in_pytorch(network: torch.nn.Module, one: Tensor) -> Side:
    """PyTorch eager at its best; what compiling makes of it, weights frozen, is said beside it."""
    counts = sorted({1, torch.get_num_threads()})
    last = deepcopy(network).to(memory_format=torch.channels_last)
    layouts = {"": (network, one), ", channels last": (last, one.contiguous(memory_format=torch.channels_last))}
    eager = best(
        {
            f"{threads} in PyTorch{layout}": partial(with_threads, threads, *pair)
            for threads in counts
            for layout, pair in layouts.items()
        }
    )
    if SHORT:  # compiling takes half a minute
        return eager
    frozen = torch.compile(deepcopy(network), dynamic=False, options={"freezing": True})
    fastest = max(with_threads(threads, frozen, one) for threads in counts)
    return Side(f"{eager.what} (compiled it does {fastest:,.0f} images/s)", eager.rate)


def passes(model: Any, one: Tensor) -> int:
    for _ in range(PASSES):
        onnx.run(model, one)
    return PASSES


def a_second(model: Any, one: Tensor) -> float:
    return rate(lambda: passes(model, one))


def with_threads(threads: int, network: torch.nn.Module, one: Tensor) -> float:
    many = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        onnx.run(network, one)  # compiles, where it is compiled
        return a_second(network, one)
    finally:
        torch.set_num_threads(many)


def ten_crops(case: stepping.Case, network: torch.nn.Module, test: packed.Images) -> Row:
    crop = case.side - 4
    form = Format(case.side, (0.5,) * case.channels, (0.25,) * case.channels, crop, 10)
    part, device, size = packed.rows(test, slice(few(2048, 256))), torch.device("cpu"), 256
    ready = next(view_batches(part, form, size, device))

    def ours() -> int:
        forward.predict(network, part, form, device, size)
        return len(part)

    @torch.inference_mode()
    def peer() -> int:
        for _ in itertools.repeat(None, len(part) // size):
            forward.score(network, ready)
        return len(part)

    what = f"evaluating on ten crops: {case.size}, {crop} px"
    return compare(what, "images/s", lambda: rate(ours), lambda: rate(peer), ">= 0.95")
