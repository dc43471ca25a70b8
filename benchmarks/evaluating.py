"""Evaluating: ONNX Runtime against PyTorch eager, one image at a time, and ten crops against the same passes on views
that lie ready.

Both networks are trained for a moment first, and both runtimes must name the same class for all 10,000 test images.
"""

import dataclasses
import io
import itertools
import sys
import zipfile
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from benchmarks import stepping
from benchmarks.bench import Row, compare, few, rate
from benchmarks.feeding import recipe_for
from pipeline.datasets.source import provided
from pipeline.images import packed
from pipeline.images.batches import train_batches
from pipeline.images.form import Format, evaluation_batches, prepare, view_batches
from pipeline.inference import forward
from pipeline.inference.device import keep_freed_memory
from pipeline.stages import latency
from pipeline.trained import onnx

TARGETS = {stepping.CIFAR: ("cifar10", ">= 14"), stepping.MNIST: ("mnist", ">= 30")}
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
        network, form = trained(case, images(name, "train", TRAINED, case))
        test = images(name, "test", TESTED, case)
        yield alone(case, network, form, test, target)
        yield ten_crops(case, network, test)


def alone(case: stepping.Case, network: torch.nn.Module, form: Format, test: packed.Images, target: str) -> Row:
    """One image at a time; each side has its better number of threads: waking a second may cost more than it saves."""
    content = onnx.convert(network, form).SerializeToString()
    many = torch.get_num_threads()
    sessions = {threads: onnx.runtime(content, threads) for threads in {1, many}}
    batches = evaluation_batches(test, form, latency.BATCH, latency.CPU)
    found = onnx.compare(sessions[many], network, batches)
    assert not found.differing, f"{found.differing} of {found.images} images have another class in ONNX Runtime"
    one = prepare(test.pixels[:1], form)

    def passes(model: object) -> int:
        for _ in range(PASSES):
            onnx.run(model, one)
        return PASSES

    def peer(threads: int) -> float:
        torch.set_num_threads(threads)
        try:
            return rate(lambda: passes(network))
        finally:
            torch.set_num_threads(many)

    threads = max(sessions, key=lambda count: rate(lambda: passes(sessions[count])))
    eager = max(sessions, key=peer)
    return compare(
        f"ONNX Runtime against PyTorch, one image at a time: {case.size}",
        "images/s",
        lambda: rate(lambda: passes(sessions[threads])),
        lambda: peer(eager),
        target,
        note=f"{threads} of {many} threads in ONNX Runtime, {eager} in PyTorch; both name the same class"
        f" for all {found.images:,} test images; logits differ by {found.difference:.0e} at most",
    )


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
