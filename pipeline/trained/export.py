"""A trained model as ONNX: `versus export MODEL-REPLICATE --onnx FILE`.

The file takes any batch of prepared images; its metadata says how to prepare them and what the classes are called. The
file is kept only if ONNX Runtime gives PyTorch's answers on the study's own test images: the same class for all and
logits within TOLERANCE, or, in 8-bit integers, the same class for LEAST of them.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.base.files import writable_file, written_whole
from pipeline.base.git import commit
from pipeline.base.places import FIT, TEST, replicate_folder, study
from pipeline.images import packed
from pipeline.images.form import Format, evaluation_batches, prepare
from pipeline.inference import loading
from pipeline.params import read
from pipeline.trained import catalogue, filled, int8
from pipeline.trained.onnx import Agreement, compare, convert, run, runtime

TOLERANCE = 1e-4  # of the largest logit, and never less than of one
MOST = 1024  # test images that are compared, spread over all of them
BATCH = 64
ALONE = 50  # passes that are timed
LEAST = 0.9  # share of the images for which a model in 8-bit integers must name PyTorch's class
CPU = torch.device("cpu")
Rewrite = Literal["none", "fill", "int8"]


def export(model: str, path: Path, rewrite: Rewrite = "none") -> None:
    """Write a trained model to `path`; raises StageError, and leaves what was there, if the file does not agree."""
    read.require_onnx("export")
    writable_file(path, "--onnx")
    entry, why = catalogue.choose(model)
    network, config = catalogue.load(entry)
    form = loading.image_format(config)
    images = saved_images(TEST, config, entry.name, MOST)
    network.eval()
    with written_whole(path) as unfinished:
        plain = convert(network, form)
        content, notes = rewritten(plain, config, entry.name, rewrite)
        describe(content, entry, config, notes)
        unfinished.write_bytes(content.SerializeToString())
        session = runtime(unfinished.read_bytes())
        verified = verify_int8 if rewrite == "int8" else verify
        agreement = verified(session, network, form, images, path)
        size = unfinished.stat().st_size
    opset = next(item.version for item in content.opset_import if not item.domain)
    shape = f"(N, {form.channels}, {form.size}, {form.size})"
    print(f"export: {why}\n{path}: {size / 1e6:.2f} MB, opset {opset}, images {shape}, N any number")
    print(f"verified on {len(images):,} test images with ONNX Runtime {version('onnxruntime')}: {agreement}")
    sessions = {"ONNX Runtime": session, f"PyTorch {version('torch')}": network}
    if rewrite != "none":
        sessions[f"ONNX Runtime without --{rewrite}"] = runtime(plain.SerializeToString())
    print(timed(sessions, prepare(images.pixels[:1], form)))


def timed(sessions: dict[str, Any], one: Tensor) -> str:
    """How long each takes for one image, in words."""
    times = ", ".join(f"{milliseconds(partial(run, each, one)):.2f} ms in {name}" for name, each in sessions.items())
    return f"one image on the CPU, {torch.get_num_threads()} threads, median of {ALONE}: {times}"


def rewritten(plain: Any, config: dict[str, Any], name: str, rewrite: Rewrite) -> tuple[Any, dict[str, str]]:
    """A model made faster by `rewrite`, and what its metadata say of that."""
    if rewrite == "fill":
        try:
            return filled.fill(plain), {"channels": f"filled up with zeros to multiples of {filled.BLOCK}"}
        except StageError as error:
            raise StageError(f"{name}: {error}; leave out --fill") from None
    if rewrite == "int8":
        images = saved_images(FIT, config, name, int8.IMAGES)
        content = int8.quantise(plain, evaluation_batches(images, loading.image_format(config), BATCH, CPU))
        return content, {"precision": f"8-bit integers, ranges from {len(images)} training images"}
    return plain, {}


def saved_images(place: Path, config: dict[str, Any], name: str, most: int) -> packed.Images:
    """The model's test or training images: `most` of them at most, spread evenly."""
    folder = replicate_folder(place, config["replicate"])
    info, images = packed.read_info(folder), packed.read(folder, "train_" if place == FIT else "")
    if info["classes"] != config["classes"]:
        raise StageError(
            f"export: {name} was trained on classes {config['classes']}, {folder} has images of {info['classes']}"
        )
    return packed.rows(images, torch.linspace(0, len(images) - 1, min(len(images), most)).round().long())


def describe(model: Any, entry: catalogue.Trained, config: dict[str, Any], more: dict[str, str]) -> None:
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
        **more,
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}
    onnx.helper.set_model_props(model, texts)


def verify(session: Any, network: nn.Module, form: Format, images: packed.Images, path: Path) -> str:
    """What the comparison with PyTorch found, in words; StageError where the file's answers are others."""
    found = compare(session, network, evaluation_batches(images, form, BATCH, CPU))
    refuse_disagreement(found, path)
    return (
        f"the same class for all, logits differ by {found.difference:.1e} at most (the largest is {found.largest:.1f})"
    )


def verify_int8(session: Any, network: nn.Module, form: Format, images: packed.Images, path: Path) -> str:
    """As `verify`, of a model in 8-bit integers: for how many images its class is PyTorch's, and both's accuracy."""
    answers, right = [], []
    for model in (session, network):
        logits = [torch.from_numpy(run(model, batch)) for batch in evaluation_batches(images, form, BATCH, CPU)]
        answers.append(torch.cat(logits).argmax(1))
        right.append((answers[-1] == images.labels).double().mean().item())
    same = int((answers[0] == answers[1]).sum())
    if same < LEAST * len(images):
        raise StageError(
            f"{path}: not written, for in 8-bit integers it names PyTorch's class for {same} of {len(images):,} test"
            f" images only, {LEAST:.0%} are asked for; leave out --int8"
        )
    return f"PyTorch's class for {same:,}; accuracy {right[0]:.1%}, PyTorch's {right[1]:.1%}"


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
