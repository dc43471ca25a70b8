"""A study's folder as the stages before report leave it, with made-up results: no data, no training, no torch."""

import csv
import dataclasses
import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from ruamel.yaml import YAML

from pipeline.records import attributes
from pipeline.records.predictions import Predictions
from pipeline.report import drawing
from pipeline.scoring.metrics import confusion_matrix, per_class, scores

ROOT = Path(__file__).parents[1]
FACES = ["Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"]
QUALITY = {"cnn": 0.96, "vit": 0.86, "hybrid": 0.94}  # how often a made-up model is right


def write(
    folder: Path,
    models: Sequence[str] = ("cnn", "vit", "hybrid"),
    replicates: Sequence[int] = (0, 1, 2),
    classes: Sequence[str] = tuple("0123456789"),
    epochs: int = 25,
    train_images: dict[str, int] | None = None,
    images: int = 360,
    overrides: dict[str, dict[str, Any]] | None = None,
    published: Sequence[dict[str, Any]] = (),
    latency: bool = True,
    seed: int = 0,
) -> Path:
    """Write params.yaml and reports/ of a made-up study into `folder`; models are cnn, vit, hybrid or any others.

    Without `latency`, evaluations are as those that were made before it was measured.
    """
    rng = np.random.default_rng(seed)
    overrides = overrides or {}
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["replicates"] = list(replicates)
    params["train"]["epochs"] = epochs
    params["train"]["warmup_epochs"] = 0
    params["models"] = {name: dict(params["models"].get(name, params["models"]["cnn"])) for name in models}
    params["published"] = list(published)
    for name, values in overrides.items():
        params["models"][name]["train"] = dict(values)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    reports = folder / "reports"
    for name in ("histories", "evaluations", "predictions"):
        (reports / name).mkdir(parents=True, exist_ok=True)

    test = rng.multinomial(images, np.full(len(classes), 1 / len(classes)))  # (K,)
    _data(reports / "data.json", classes, test)
    write_doctor(reports / "doctor.json")
    Image.fromarray(rng.integers(0, 256, (200, 480, 3), dtype=np.uint8)).save(reports / "augmentation.png")
    for name in models:
        for replicate in replicates:
            config = {key: _plain(params[key]) for key in ("dataset", "augment", "train")}
            config["model"] = _plain(params["models"][name])
            config["train"].update(overrides.get(name, {}))
            _replicate(reports, name, replicate, classes, test, config, overrides.get(name, {}), rng, latency)
            if train_images is not None:  # evaluations that were made before it was counted have no such key
                path = reports / "evaluations" / f"{name}-{replicate}.json"
                evaluation = json.loads(path.read_text(encoding="utf-8")) | {"train_images": train_images[name]}
                evaluation["scores"]["top5_accuracy"] = 0.9 + replicate / 100
                path.write_text(json.dumps(evaluation), encoding="utf-8")
    return folder


def write_attributes(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Say of each test image a value of each attribute, as split does; empty where it is not known."""
    path = folder / "reports/data.json"
    known = [dataclasses.asdict(each) for each in attributes.of_columns(columns)]
    path.write_text(json.dumps({**json.loads(path.read_text()), "attributes": known}), encoding="utf-8")


def write_doctor(path: Path, **found: Any) -> None:
    """What the doctor says of clean data, but for what is `found`."""
    kinds = [f"{kind}_{splits}" for kind in ("equal", "near") for splits in ("train_val", "train_test", "val_test")]
    clean = ["duplicate_images", "duplicate_groups", "conflicting_labels", "near_pairs", "blank_images"]
    numbers = {"images": 500, **dict.fromkeys([*kinds, *clean, "leaked_test_images"], 0), "near_correlation": 0.99}
    path.write_text(json.dumps({**numbers, "leaked_test_rows": [], **found}), encoding="utf-8")


def write_explanations(reports: Path, models: Sequence[str], shareable: bool = True) -> None:
    """What explain would say of the first replicates: one image of each kind for each model, in tiles of noise."""
    rows: dict[str, list[dict[str, Any]]] = {
        name: Predictions.read(reports / f"predictions/{name}-0.parquet").frame().to_dict("records") for name in models
    }
    places = iter(range(1000))

    def tile(shown: bool = True) -> list[int] | None:
        return list(divmod(next(places), 16))[::-1] if shown else None

    def answer(name: str, row: int) -> dict[str, Any]:
        found = rows[name][row]
        return {
            "model": name,
            "predicted": found["predicted"],
            "probability": found["confidence"],
            "overlay": tile(),
        }

    def described(row: int) -> dict[str, Any]:
        actual = rows[models[0]][row]["actual"]
        return {
            "image": row,
            "actual": actual,
            "tile": tile(shareable),
            "answers": [answer(each, row) for each in models],
        }

    everywhere = range(len(rows[models[0]]))
    guesses = [{rows[name][row]["predicted"] for name in models} for row in everywhere]
    apart = [row for row in everywhere if len(guesses[row]) > 1]
    wrong = {
        name: [row for row, each in enumerate(rows[name]) if each["actual"] != each["predicted"]] for name in models
    }
    facts = {
        "images": len(guesses),
        "disagreements": len(apart),
        "replicate": 0,
        "shareable": shareable,
        "sheet": [16, 4],
        "models": [
            {"model": name, "method": "attention rollout" if name == "vit" else "Grad-CAM", "side": 4}
            for name in models
        ],
        "disagree": [described(row) for row in apart[:2]],
        "mistakes": [
            {
                "model": name,
                "images": [
                    {"image": row, "actual": rows[name][row]["actual"], "tile": tile(shareable), **answer(name, row)}
                    for row in wrong[name][:2]
                ],
            }
            for name in models
        ],
        "right": [described(next(row for row in everywhere if len(guesses[row]) == 1))],
    }
    (reports / "explanations.json").write_text(json.dumps(facts), encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (64, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(reports / "explanations.jpg", quality=60)


def _data(path: Path, classes: Sequence[str], test: np.ndarray) -> None:
    counts = np.round(120 * 10 ** (-np.arange(len(classes)) / max(len(classes) - 1, 1))).astype(int)
    median = np.median(counts)
    data = {
        "study": "digits",
        "dataset": "digits",
        "title": "Optical recognition of handwritten digits",
        "variant": "",
        "licence": "CC BY 4.0",
        "homepage": "https://archive.ics.uci.edu/dataset/80",
        "caveats": "Scans of digits from 13 writers.",
        "expressions": False,
        "published": {},
        "found": {"train": 1437, "val": 0, "test": int(test.sum())},
        "imbalance": 10.0,
        "minority": [name for name, count in zip(classes, counts, strict=True) if count < median],
        "digests": {"fit": "3f" * 32, "test": "a7" * 32},
        "classes": [
            {"class": name, "train": int(count), "val": 29, "test": int(tested)}
            for name, count, tested in zip(classes, counts, test, strict=True)
        ],
    }
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")


def _replicate(
    reports: Path,
    model: str,
    replicate: int,
    classes: Sequence[str],
    test: np.ndarray,
    config: dict[str, Any],
    overrides: dict[str, Any],
    rng: np.random.Generator,
    latency: bool,
) -> None:
    name, k = f"{model}-{replicate}", len(classes)
    quality = QUALITY.get(model, 0.8 + len(model) / 100) + rng.normal(0, 0.008)
    ranks = np.linspace(0.04, -0.08, k)  # the rarer a class in training, the harder
    actual = np.repeat(np.arange(k), test)  # (N,)
    right = rng.random(len(actual)) < np.clip(quality + ranks[actual], 0, 1)
    predicted = np.where(right, actual, (actual + rng.integers(1, 4, len(actual))) % k)

    epochs = np.arange(1, config["train"]["epochs"] + 1)
    rise = 1 - np.exp(-epochs / (3 if model == "cnn" else 6)) * 0.85
    accuracy = np.clip(quality * rise + rng.normal(0, 0.012, len(epochs)), 0, 1)
    macro = np.clip(accuracy - 0.01 + rng.normal(0, 0.006, len(epochs)), 0, 1)
    best = int(macro.argmax())
    with (reports / "histories" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1"])
        for row, epoch in enumerate(epochs):
            loss = 2.2 * np.exp(-epoch / 6) + 0.03 + abs(rng.normal(0, 0.02))
            table.writerow(
                [epoch, 3e-4, loss, min(1, accuracy[row] + 0.01), 1.2 * loss + 0.1, accuracy[row], macro[row]]
            )

    own = np.random.default_rng([_seed(model), replicate])  # draws nothing from the others'
    sure = np.clip(np.where(right, own.beta(9, 1, len(right)), own.beta(3, 2, len(right))), 0.5, 1)
    shares = np.repeat((1 - sure[:, None]) / (k - 1), k, axis=1)  # (N, K)
    shares[np.arange(len(sure)), predicted] = sure
    images = [f"{row:04}.png" for row in range(len(sure))]
    found = Predictions.of(list(classes), actual, predicted, shares, images)
    found.write(reports / "predictions" / f"{name}.parquet")

    confusion = confusion_matrix(actual, predicted, k)
    each = per_class(confusion)
    parameters = {"cnn": 11_181_642, "vit": 466_378, "hybrid": 3_019_466}.get(model, 25_000 * len(model))
    timed = {
        "cpu_ms_per_image": 2 + 1e-6 * parameters * (1 + 0.1 * np.sin(replicate)),  # draws nothing: others stay
        "cpu_images": len(actual),
        "cpu_batch": 64,
        "cpu_threads": 2,
    }
    evaluation = {
        "model": model,
        "replicate": replicate,
        "classes": [
            {"class": label, **{key: _number(each[key][index]) for key in ("precision", "recall", "f1")}}
            | {"support": int(each["support"][index]), "predicted_as": confusion[index].tolist()}
            for index, label in enumerate(classes)
        ],
        "scores": scores(confusion),
        "images": len(actual),
        "selected": {
            "epoch": best + 1,
            "lr": 3e-4,
            "train_loss": 0.1,
            "train_accuracy": 0.99,
            "val_loss": 0.2,
            "val_accuracy": accuracy[best],
            "val_macro_f1": macro[best],
        },
        "cost": {
            "parameters": parameters,
            "flops": 31 * parameters,
            "weight_bytes": 4 * parameters + 20_000,
            "train_seconds": 30 + 2e-6 * parameters + rng.random(),
            "epochs": len(epochs),
            **(timed if latency else {}),
        },
        "run": {"commit": "0" * 40, "started": "2026-01-02T03:04:05+00:00"},
        "machine": {
            "device": "cpu",
            "processor": "A laptop's processor",
            "threads": 2,
            "precision": "fp32",
            "torch": "2.11.0",
            "timm": "1.0.20",
            "python": "3.11.9",
        },
        "config": config,
        "overrides": overrides,
        "initialisation": "from scratch",
    }
    (reports / "evaluations" / f"{name}.json").write_text(json.dumps(evaluation, indent=1), encoding="utf-8")


def _seed(model: str) -> int:
    return int.from_bytes(model.encode(), "big")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    """The mapping without the YAML reader's own types."""
    return json.loads(json.dumps(value))


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]))


def leave_blank(_: Figure, folder: Path, name: str) -> None:
    """In place of `figures.save`, whose layout takes most of a report's time: the same files of an empty figure."""
    for suffix, content in _blank().items():
        (folder / f"{name}{suffix}").write_bytes(content)


@functools.cache
def _blank(save: Any = drawing.save) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save(Figure(figsize=(1, 1)), Path(folder), "blank")
        return {path.suffix: path.read_bytes() for path in Path(folder).iterdir()}
