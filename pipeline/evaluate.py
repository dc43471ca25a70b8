"""Score one trained model on the test images, once: `python -m pipeline.evaluate MODEL REPLICATE`.

In float32. Leaves reports/evaluations/<model>-<replicate>.json, which holds all that a report says of this training,
and reports/predictions/<model>-<replicate>.csv, every test image with its probabilities.
"""

import argparse
import base64
import dataclasses
import functools
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline import calibration, inference, inflation, loader, metrics, networks, onnx_model, params, resume, tracking
from pipeline.stage import StageError, packed, run, whole, write_json

TEST = Path("data/test")
FIT = Path("data/fit")
FRACTIONS = ("precision", "recall", "f1")
TOP = 5  # of more classes than these, the share of images whose class is among the likeliest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description="Score one trained model.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="one of `replicates` in params.yaml")
    arguments = parser.parse_args()
    evaluate(f"{arguments.model}-{arguments.replicate}")


def evaluate(name: str) -> None:
    inference.keep_freed_memory()
    folder = Path("models") / name
    network, config = inference.load(folder)
    diary = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    test = packed(TEST, config["replicate"])
    info, images = loader.read_info(test), loader.read(test)
    classes = config["classes"]
    if info["classes"] != classes:
        raise StageError(f"evaluate: {name} was trained on classes {classes}, the test images have {info['classes']}")

    device = inference.pick_device(config["train"]["device"])
    if config["train"].get("deterministic"):
        inference.be_deterministic()
    form = inference.image_format(config)
    network = network.to(memory_format=torch.channels_last)  # as processors read images
    study = params.load()
    cost = measure_cost(network, form, folder / "weights.safetensors") | {"cpu_threads": torch.get_num_threads()}
    if study.evaluate.onnx:
        cost["onnx_differing"] = differing_in_onnx(network, images, form)
    with inference.memory_remedy("free memory on the device, or lower train.batch_size"):
        predict = functools.partial(inference.predict, network.to(device), images, device=device)
        logits = predict(form, batch_size=config["train"]["batch_size"])
        first = None  # of several views alone
        if form.views > 1:
            first = predict(dataclasses.replace(form, views=1), batch_size=config["train"]["batch_size"])
    probabilities = logits.double().softmax(1).numpy()  # (N, K)
    actual, predicted = images.labels.numpy(), logits.argmax(1).numpy()
    confusion = metrics.confusion_matrix(actual, predicted, len(classes))
    scores = metrics.scores(confusion)
    if len(classes) > TOP:
        scores[f"top{TOP}_accuracy"] = metrics.top_k_accuracy(actual, logits.numpy(), TOP)
    one_view = None
    if first is not None:
        one_view = metrics.scores(metrics.confusion_matrix(actual, first.argmax(1).numpy(), len(classes)))
    inflated = None
    if study.evaluate.inflation:
        inflated = inflation.inflation(folder, network, images, form, device, config, scores)
    result = {
        "model": config["model"],
        "replicate": config["replicate"],
        "classes": class_rows(confusion, classes),
        "scores": scores,
        "one_view": one_view,
        "calibration": calibration.believed(validation(folder, config), logits.numpy(), actual),
        "images": len(images),
        "inflation": inflated,
        "mistakes": mistakes(images, confusion, probabilities, classes) if info.get("shareable") else [],
        "train_images": diary["train_images"],
        "confusion": {"rows": "actual", "columns": "predicted", "counts": confusion.tolist()},
        "selected": diary["selected"],
        "cost": {**cost, "train_seconds": diary["seconds"], "epochs": config["train"]["epochs"]},
        "machine": diary["machine"],
        "run": {key: diary[key] for key in ("key", "commit", "started", "mlflow_run") if key in diary}
        | {"weights_sha256": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()},
        "config": {
            "dataset": {**config["data"], "image_size": config["image_size"]},
            "augment": config["augment"],
            "train": config["train"],
            "model": {
                **config["network"],
                "pretrained": networks.weights_name(config),
                "train_fraction": config["train_fraction"],
            },
        },
        "overrides": config["overrides"],
        "initialisation": networks.initialisation(network, config),
    }
    evaluation, predictions = Path(f"reports/evaluations/{name}.json"), Path(f"reports/predictions/{name}.csv")
    with whole(evaluation) as partial:
        write_json(partial, result)
    with whole(predictions) as partial:
        prediction_table(actual, predicted, probabilities, classes).to_csv(partial, index=False, lineterminator="\n")
    example, resize = images.pixels[:1].numpy(), info["resize"]
    with tracking.evaluation_run(name, diary["key"], config, lambda run: run.model(folder, example, resize)) as tracked:
        tracked.dataset(config["data"]["title"], info["digest"], config["data"]["dataset"], "test")
        tracked.metrics({f"test_{key}": value for key, value in scores.items()})
        tracked.metrics({f"test_f1/{row['class']}": row["f1"] for row in result["classes"]})
        tracked.metrics({f"test_one_view_{key}": value for key, value in (one_view or {}).items()})
        tracked.metrics(result["cost"])
        tracked.metrics({f"test_{name}": value for name, value in result["calibration"].items() if value is not None})
        if inflated:
            tracked.metrics({f"inflation_{key}": gap for key, gap in inflated["gap"].items()})
        tracked.artifact(evaluation)
        tracked.artifact(predictions)
        tracked.confusion(confusion, classes)
    resume.discard(diary["key"])
    print(f"evaluate: {name} accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}, n = {len(images)}")


def validation(folder: Path, config: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits (N, K) and labels (N,) of the validation images, as train and split left them.

    None where they were trained on: what a network makes of those says nothing of new images.
    """
    if config["train"].get("include_validation"):
        return None
    fit = packed(FIT, config["replicate"])
    logits, labels = np.load(folder / "val_logits.npy"), np.load(fit / "val_labels.npy")
    if len(logits) != len(labels):
        raise StageError(
            f"evaluate: {folder} has logits of {len(logits)} validation images, {fit} {len(labels)} labels; run"
            " `dvc repro`"
        )
    return logits, labels


def measure_cost(network: nn.Module, form: loader.Format, weights: Path) -> dict[str, int]:
    """Parameters, floating-point operations of one image's forward pass (a multiply-add is two), bytes of weights."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, form.channels, form.size, form.size))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": counter.get_total_flops(),
        "weight_bytes": weights.stat().st_size,
    }


def differing_in_onnx(network: nn.Module, images: loader.Images, form: loader.Format) -> int:
    """For how many images ONNX Runtime finds another class likeliest; of several views it is the first that counts."""
    session = onnx_model.session(network.eval(), form)
    with torch.inference_mode():
        batches = loader.test_batches(images, form, onnx_model.BATCH, torch.device("cpu"))
        return onnx_model.compare(session, network, batches).differing


def class_rows(confusion: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class; what is undefined is None."""
    columns = metrics.per_class(confusion)
    return [
        {
            "class": name,
            **{key: None if np.isnan(columns[key][index]) else columns[key][index].item() for key in FRACTIONS},
            "support": int(columns["support"][index]),
        }
        for index, name in enumerate(classes)
    ]


def mistakes(
    images: loader.Images, confusion: np.ndarray, probabilities: np.ndarray, classes: list[str], pairs: int = 4
) -> list[dict[str, str]]:
    """The surest mistake in either direction of the `pairs` of classes confused most, each as a PNG in base64."""
    both = np.tril(confusion + confusion.T, -1)  # (K, K)
    order = np.argsort(-both, axis=None, kind="stable")[: min(pairs, np.count_nonzero(both))]
    ranked = [divmod(int(place), len(classes)) for place in order]
    found = []
    for first, second in ranked:
        for actual, predicted in ((first, second), (second, first)):
            of_class = (images.labels.numpy() == actual) & (probabilities.argmax(1) == predicted)
            if not of_class.any():
                continue
            row = int(np.where(of_class, probabilities[:, predicted], -1).argmax())
            pixels = images.pixels[row].numpy()  # (S, S, C)
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "png")
            png = base64.b64encode(buffer.getvalue()).decode()
            found.append({"actual": classes[actual], "predicted": classes[predicted], "png": png})
    return found


def prediction_table(
    actual: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """One row per test image: its row in data/test/manifest.csv, both class names, and a probability per class."""
    names = np.array(classes, dtype=object)
    table = pd.DataFrame({"image": np.arange(len(actual)), "actual": names[actual], "predicted": names[predicted]})
    columns = pd.DataFrame(probabilities.round(5), columns=[f"p({name})" for name in classes])
    return pd.concat([table, columns], axis=1)


if __name__ == "__main__":
    run(main)
