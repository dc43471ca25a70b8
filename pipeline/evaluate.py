"""Score one trained model on the test images, once: `python -m pipeline.evaluate MODEL REPLICATE`.

In float32. Leaves reports/evaluations/<model>-<replicate>.json, which holds all that a report says of this training,
and reports/predictions/<model>-<replicate>.csv, every test image with its probabilities.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline import inference, loader, metrics, networks, tracking
from pipeline.stage import StageError, run, whole, write_json

TEST = Path("data/test")
FRACTIONS = ("precision", "recall", "f1")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description="Score one trained model.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="one of `replicates` in params.yaml")
    arguments = parser.parse_args()
    evaluate(f"{arguments.model}-{arguments.replicate}")


def evaluate(name: str) -> None:
    folder = Path("models") / name
    network, config = inference.load(folder)
    diary = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    info, images = loader.read_info(TEST), loader.read(TEST)
    classes = config["classes"]
    if info["classes"] != classes:
        raise StageError(f"evaluate: {name} was trained on classes {classes}, the test images have {info['classes']}")

    device = inference.pick_device(config["train"]["device"])
    cost = measure_cost(network, config["image_size"], folder / "weights.safetensors")
    with inference.memory_remedy("free memory on the device, or lower train.batch_size"):
        logits = inference.predict(
            network.to(device), images, config["image_size"], device, config["train"]["batch_size"]
        )
    probabilities = logits.double().softmax(1).numpy()  # (N, K)
    actual, predicted = images.labels.numpy(), logits.argmax(1).numpy()
    confusion = metrics.confusion_matrix(actual, predicted, len(classes))
    scores = metrics.scores(confusion)
    result = {
        "model": config["model"],
        "replicate": config["replicate"],
        "classes": class_rows(confusion, classes),
        "scores": scores,
        "images": len(images),
        "confusion": {"rows": "actual", "columns": "predicted", "counts": confusion.tolist()},
        "selected": diary["selected"],
        "cost": {**cost, "train_seconds": diary["seconds"], "epochs": config["train"]["epochs"]},
        "machine": diary["machine"],
        "run": {key: diary[key] for key in ("commit", "started")},
        "config": {
            "dataset": {**config["data"], "image_size": config["image_size"]},
            "augment": config["augment"],
            "train": config["train"],
            "model": {**config["network"], "pretrained": networks.weights_name(config)},
        },
        "overrides": config["overrides"],
        "initialisation": networks.initialisation(network, config),
    }
    evaluation, predictions = Path(f"reports/evaluations/{name}.json"), Path(f"reports/predictions/{name}.csv")
    with whole(evaluation) as partial:
        write_json(partial, result)
    with whole(predictions) as partial:
        prediction_table(actual, predicted, probabilities, classes).to_csv(partial, index=False, lineterminator="\n")
    with tracking.evaluation_run(name, diary["key"], config) as tracked:
        tracked.dataset(config["data"]["title"], info["digest"], config["data"]["dataset"], "test")
        tracked.metrics({f"test_{key}": value for key, value in scores.items()})
        tracked.metrics({f"test_f1/{row['class']}": row["f1"] for row in result["classes"] if row["f1"] is not None})
        tracked.metrics(result["cost"])
        tracked.artifact(evaluation)
        tracked.artifact(predictions)
        tracked.confusion(confusion, classes)
    print(f"evaluate: {name} accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}, n = {len(images)}")


def measure_cost(network: nn.Module, image_size: int, weights: Path) -> dict[str, int]:
    """Parameters, floating-point operations of one image's forward pass (a multiply-add is two), bytes of weights."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, image_size, image_size))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": counter.get_total_flops(),
        "weight_bytes": weights.stat().st_size,
    }


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
