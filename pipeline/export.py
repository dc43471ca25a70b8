"""A trained model as ONNX: `versus export MODEL-REPLICATE --onnx FILE`, or `python -m pipeline.export ...`.

The file takes any batch of prepared images; its metadata says how to prepare them and what the classes are called. The
file is kept only if ONNX Runtime gives PyTorch's answers on the study's own test images.
"""

import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import cli, inference, loader, trained
from pipeline.stage import StageError, commit, packed, study, whole

TEST = Path("data/test")
NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4  # of the largest logit, and never less than of one
MOST = 1024  # test images that are compared, spread over all of them
BATCH = 64
ALONE = 50  # passes that are timed


@dataclass(frozen=True)
class Agreement:
    images: int
    difference: float  # largest, of two logits
    largest: float  # logit
    differing: int  # images whose likeliest class differs


def export(model: str, path: Path) -> None:
    """Write a trained model to `path`; raises StageError, and leaves what was there, if the file does not agree."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise StageError(f"export needs {', '.join(missing)}: python -m pip install -c constraints.txt -e '.[export]'")
    if path.is_dir():
        raise StageError(f"{path}: a folder; give the file to write, such as {path / 'model.onnx'}")
    entry, why = trained.choose(model)
    network, config = trained.load(entry)
    form = inference.image_format(config)
    images = test_images(config, entry.name)
    network.eval()
    with whole(path) as partial:
        content = convert(network, form)
        describe(content, entry, config)
        partial.write_bytes(content.SerializeToString())
        session = runtime(partial)
        agreement = compare(session, network, loader.test_batches(images, form, BATCH, torch.device("cpu")))
        refuse_disagreement(agreement, path)
        size = partial.stat().st_size
    opset = next(item.version for item in content.opset_import if not item.domain)
    shape = f"(N, {form.channels}, {form.size}, {form.size})"
    print(f"export: {why} -> {path}: {size / 1e6:.2f} MB, opset {opset}, images {shape}, N any number")
    print(
        f"verified on {agreement.images:,} test images with ONNX Runtime {version('onnxruntime')}: the same class for"
        f" all, logits differ by {agreement.difference:.1e} at most (the largest is {agreement.largest:.1f})"
    )
    one = loader.prepare(images.pixels[:1], form)
    runtimes = milliseconds(lambda: run(session, one)), milliseconds(lambda: run(network, one))
    print(
        f"one image on the CPU, {torch.get_num_threads()} threads, median of {ALONE}: {runtimes[0]:.2f} ms in ONNX"
        f" Runtime, {runtimes[1]:.2f} ms in PyTorch {version('torch')}"
    )


def test_images(config: dict[str, Any], name: str) -> loader.Images:
    """The images to compare on: MOST of the study's test images at most, spread evenly."""
    folder = packed(TEST, config["replicate"])
    info, images = loader.read_info(folder), loader.read(folder)
    if info["classes"] != config["classes"]:
        raise StageError(
            f"export: {name} was trained on classes {config['classes']}, the test images have {info['classes']}"
        )
    rows = torch.linspace(0, len(images) - 1, min(len(images), MOST)).round().long()
    return loader.Images(images.pixels[rows], images.labels[rows])


def convert(network: nn.Module, form: loader.Format) -> Any:
    """The network as an ONNX model of a free batch size, without a trace of where its code lies."""
    example = torch.zeros(2, form.channels, form.size, form.size)
    with warnings.catch_warnings(), torch.no_grad(), free_length(network):
        warnings.simplefilter("ignore")  # of the exporter's own parts
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            node.ClearField("metadata_props")  # stack traces
    return model


def free_length(network: nn.Module) -> Any:
    """Let `len(tensor)` in a network's forward be a free batch size: torch.export takes Python's own for a constant."""
    module = sys.modules[type(network).__module__]
    return mock.patch.object(module, "len", lambda x: x.shape[0] if isinstance(x, Tensor) else len(x), create=True)


def describe(model: Any, entry: trained.Trained, config: dict[str, Any]) -> None:
    """Put into the model's metadata what one needs to use it, and where it comes from."""
    import onnx

    form = inference.image_format(config)
    order = "RGB" if form.channels == 3 else "grey"
    notes = {
        "classes": config["classes"],
        "input": f"float32 (N, {form.channels}, {form.size}, {form.size}), {order}, (value / 255 - mean) / std"
        + (f"; the centre of images of {form.whole} pixels" if form.crop else ""),
        "mean": form.mean,
        "std": form.std,
        "output": f"logits (N, {len(config['classes'])}); their softmax are probabilities",
        "study": study(),
        "model": entry.name,
        "val_macro_f1": entry.val_macro_f1,
        "data": config["data"]["title"],
        "commit": commit(),
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}
    onnx.helper.set_model_props(model, texts)


def runtime(path: Path) -> Any:
    """The file in ONNX Runtime on the CPU, with as many threads as PyTorch takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def run(model: Any, images: Tensor) -> np.ndarray:
    """Logits (N, K) of prepared images, of a network or of a session of ONNX Runtime."""
    if isinstance(model, nn.Module):
        with torch.inference_mode():
            return model(images).numpy()
    return model.run(["logits"], {"images": images.numpy()})[0]


def compare(session: Any, network: nn.Module, batches: Iterable[Tensor]) -> Agreement:
    """Both on all batches, and on the first image of each alone."""
    images = differing = 0
    difference = largest = 0.0
    for batch in batches:
        wanted = run(network, batch)  # (N, K)
        got = run(session, batch)
        alone = run(session, batch[:1])
        images += len(batch)
        differing += int((got.argmax(1) != wanted.argmax(1)).sum())
        # a maximum of numpy's keeps nan, Python's may drop it
        difference = float(np.max([difference, np.abs(got - wanted).max(), np.abs(alone - wanted[:1]).max()]))
        largest = max(largest, float(np.abs(wanted).max()))
    return Agreement(images, difference, largest, differing)


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


if __name__ == "__main__":
    cli.main(["export", *sys.argv[1:]])
