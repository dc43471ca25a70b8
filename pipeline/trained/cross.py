"""Trained models on the test images of other expression data sets; of one without a test split, on all its images.

Expressions are matched by name, whatever their order and spelling.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.base.places import find
from pipeline.datasets.decode import decoded
from pipeline.datasets.resize import fitted
from pipeline.images.packed import Images
from pipeline.inference import forward, loading
from pipeline.params.settings import DatasetName, Frozen, Weights
from pipeline.scoring import metrics

FILE = Path("cross.yaml")
SPELLINGS = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}


class Source(Frozen):
    name: DatasetName
    source: str = ""


class Settings(Frozen):
    models: dict[str, Weights]
    datasets: dict[str, Source]
    spellings: dict[str, str] = Field(default_factory=dict)
    """Of a class, in lower case -> its name; beside SPELLINGS."""


def read(path: Path = FILE) -> Settings:
    try:
        return Settings.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, YAMLError) as error:
        raise StageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise StageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def scored(settings: Settings) -> dict[str, dict[str, dict[str, Any]]]:
    """What `score` says of each model on each data set: model -> data set -> scores."""
    names = {**SPELLINGS, **settings.spellings}
    models = {name: load(name, given) for name, given in settings.models.items()}
    results: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in models}
    for key, given in settings.datasets.items():
        with datasets.opened(given.name, given.source) as (_, collection):
            images = [image for image in collection.images if image.split in ("", "test")]
            labels = [meaning(image.label, names) for image in images]
            sources = [pixels for _, pixels in decoded(images)]
        for name, (network, config) in models.items():
            results[name][key] = score(network, config, sources, labels, names, f"{name} on {key}")
    return results


def load(name: str, given: Weights) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A trained network with its configuration; raises StageError where its weights are others than named."""
    folder = find(given.path)
    weights = folder / "weights.safetensors" if folder else None
    if folder is None or weights is None or not weights.is_file():
        raise StageError(f"{FILE}: models.{name}.path: no trained model in {given.path!r}; run its study first")
    digest = sha256(weights)
    if digest != given.sha256:
        raise StageError(f"{FILE}: models.{name}.sha256: the weights in {given.path} have {digest}")
    return loading.load(folder)


def meaning(label: str, names: Mapping[str, str]) -> str:
    return names.get(label.lower(), label.lower())


def score(
    network: torch.nn.Module,
    config: Mapping[str, Any],
    images: Sequence[np.ndarray],
    labels: Sequence[str],
    names: Mapping[str, str],
    what: str,
) -> dict[str, Any]:
    """Scores, confusion matrix and classes of one model on images (H, W, C) whose labels are names."""
    classes = [meaning(label, names) for label in config["classes"]]
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise StageError(f"cross: {what}: the model knows no class {unknown[0]!r}; it has {', '.join(classes)}")
    form = loading.image_format(dict(config))
    channels = max(image.shape[2] for image in images)
    pixels = np.stack([fitted(image, form.whole, channels, "crop") for image in images])  # (N, S, S, C)
    actual = np.array([classes.index(label) for label in labels])
    packed = Images(torch.from_numpy(pixels), torch.from_numpy(actual))
    logits = forward.predict(network, packed, form, torch.device("cpu"))
    confusion = metrics.confusion_matrix(actual, logits.argmax(1).numpy(), len(classes))
    return {
        **metrics.scores(confusion),
        "images": len(actual),
        "trained_on": config["data"]["dataset"],
        "classes": classes,
        "confusion": confusion.tolist(),
    }
