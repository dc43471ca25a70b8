"""A trained model as ONNX: `versus export MODEL-REPLICATE --onnx FILE`.

The file takes any batch of prepared images; its metadata says how to prepare them and what the classes are called. The
file is kept only if ONNX Runtime gives PyTorch's answers on the study's own test images.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import StageError
from pipeline.base.files import writable, written_whole
from pipeline.base.git import commit
from pipeline.base.places import TEST, replicate_folder, study
from pipeline.images import packed
from pipeline.images.form import evaluation_batches, prepare
from pipeline.inference import loading
from pipeline.params import read
from pipeline.trained import catalogue
from pipeline.trained.onnx import Agreement, compare, convert, run, runtime

TOLERANCE = 1e-4  # of the largest logit, and never less than of one
MOST = 1024  # test images that are compared, spread over all of them
BATCH = 64
ALONE = 50  # passes that are timed


def export(model: str, path: Path) -> None:
    """Write a trained model to `path`; raises StageError, and leaves what was there, if the file does not agree."""
    read.require_onnx("export")
    if path.is_dir():
        raise StageError(f"{path}: a folder; give the file to write, such as {path / 'model.onnx'}")
    if path.exists() and not path.is_file():
        raise StageError(f"{path}: neither a file nor a free name; give the file to write, such as model.onnx")
    writable(path.parent, "--onnx")
    entry, why = catalogue.choose(model)
    network, config = catalogue.load(entry)
    form = loading.image_format(config)
    images = test_images(config, entry.name)
    network.eval()
    with written_whole(path) as unfinished:
        content = convert(network, form)
        describe(content, entry, config)
        unfinished.write_bytes(content.SerializeToString())
        session = runtime(unfinished.read_bytes())
        agreement = compare(session, network, evaluation_batches(images, form, BATCH, torch.device("cpu")))
        refuse_disagreement(agreement, path)
        size = unfinished.stat().st_size
    opset = next(item.version for item in content.opset_import if not item.domain)
    shape = f"(N, {form.channels}, {form.size}, {form.size})"
    print(f"export: {why}\n{path}: {size / 1e6:.2f} MB, opset {opset}, images {shape}, N any number")
    print(
        f"verified on {agreement.images:,} test images with ONNX Runtime {version('onnxruntime')}: the same class for"
        f" all, logits differ by {agreement.difference:.1e} at most (the largest is {agreement.largest:.1f})"
    )
    one = prepare(images.pixels[:1], form)
    runtimes = [milliseconds(partial(run, model, one)) for model in (session, network)]
    print(
        f"one image on the CPU, {torch.get_num_threads()} threads, median of {ALONE}: {runtimes[0]:.2f} ms in ONNX"
        f" Runtime, {runtimes[1]:.2f} ms in PyTorch {version('torch')}"
    )


def test_images(config: dict[str, Any], name: str) -> packed.Images:
    """The images to compare on: MOST of the study's test images at most, spread evenly."""
    folder = replicate_folder(TEST, config["replicate"])
    info, images = packed.read_info(folder), packed.read(folder)
    if info["classes"] != config["classes"]:
        raise StageError(
            f"export: {name} was trained on classes {config['classes']}, the test images have {info['classes']}"
        )
    rows = torch.linspace(0, len(images) - 1, min(len(images), MOST)).round().long()
    return packed.Images(images.pixels[rows], images.labels[rows])


def describe(model: Any, entry: catalogue.Trained, config: dict[str, Any]) -> None:
    """Put into the model's metadata what one needs to use it, and where it comes from."""
    import onnx

    form = loading.image_format(config)
    order = "RGB" if form.channels == 3 else "grey"
    notes = {
        "classes": config["classes"],
        "input": f"float32 (N, {form.channels}, {form.size}, {form.size}), {order}, (value / 255 - mean) / std"
        + (f"; the centre of images of {form.whole} pixels" if form.crop else "")
        + (f"; the study's scores are of the mean logits of {form.views} views" if form.views > 1 else ""),
        "mean": form.mean,
        "std": form.std,
        "output": f"logits (N, {len(config['classes'])}); their softmax are probabilities",
        "study": study(),
        "model": entry.name,
        **({} if entry.val_macro_f1 is None else {"val_macro_f1": entry.val_macro_f1}),
        "data": config["data"]["title"],
        "commit": commit(),
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}
    onnx.helper.set_model_props(model, texts)


def refuse_disagreement(found: Agreement, path: Path) -> None:
    allowed = TOLERANCE * max(1.0, found.largest)
    if found.differing or not found.difference <= allowed:
        raise StageError(
            f"{path}: not written, for ONNX Runtime disagrees with PyTorch: on {found.images:,} test images the class"
            f" differs for {found.differing}, logits by up to {found.difference:.1e} where {allowed:.1e} is allowed"
        )


def milliseconds(call: Callable[[], object]) -> float:
    """The median of ALONE calls, after as many that warm up."""
    times = []
    for _ in range(2 * ALONE):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[ALONE:]) * 1000
