"""Score trained models on the test images of other expression data sets: `python -m pipeline.commands.cross`.

The folder that it runs in, studies/cross_fer, has cross.yaml, which names the models ({path, sha256}: the folder that
train left, the SHA-256 of its weights) and the data sets. Expressions are matched by name, whatever their order and
spelling. Leaves reports/cross.json, and in reports/cross/ a matrix of models and data sets: a table (CSV, Markdown,
LaTeX) and a heat map. Of a data set without a test split, all images are scored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import find
from pipeline.base.process import run
from pipeline.datasets.decode import decoded
from pipeline.datasets.resize import fitted
from pipeline.images.packed import Images
from pipeline.inference import forward, loading
from pipeline.params.settings import DatasetName, Frozen, Weights
from pipeline.report import drawing, words
from pipeline.report.table import Table, write
from pipeline.scoring import metrics

FILE, REPORTS = Path("cross.yaml"), Path("reports")
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
    spellings: Mapping[str, str] = Field(
        default_factory=dict
    )  # of a class, in lower case -> its name; beside SPELLINGS


def main() -> None:
    settings = read(FILE)
    names = {**SPELLINGS, **settings.spellings}
    models = {name: load(name, given) for name, given in settings.models.items()}
    results: dict[str, dict[str, Any]] = {name: {} for name in models}
    for key, given in settings.datasets.items():
        with datasets.opened(given.name, given.source) as (_, collection):
            images = [image for image in collection.images if image.split in ("", "test")]
            labels = [meaning(image.label, names) for image in images]
            sources = [pixels for _, pixels in decoded(images)]
        for name, (network, config) in models.items():
            results[name][key] = score(network, config, sources, labels, names, f"{name} on {key}")
    with written_whole(REPORTS / "cross.json") as partial:
        write_json(partial, results)
    with written_whole(REPORTS / "cross") as folder:
        folder.mkdir(parents=True)
        write(table(results, models, settings), folder)
        accuracies = [[results[name][key]["accuracy"] for key in settings.datasets] for name in models]
        drawing.save(heat_map(np.array(accuracies), list(models), list(settings.datasets)), folder, "cross")
    print(f"cross: {len(models)} models on {len(settings.datasets)} data sets: {REPORTS / 'cross'}")


def read(path: Path) -> Settings:
    try:
        return Settings.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, YAMLError) as error:
        raise StageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise StageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def load(name: str, given: Weights) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A trained network with its configuration; raises StageError where its weights are others than named."""
    folder = find(given.path)
    weights = folder / "weights.safetensors" if folder else None
    if folder is None or weights is None or not weights.is_file():
        raise StageError(f"{FILE}: models.{name}.path: no trained model in {given.path!r}; run its study first")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
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


def table(results: Mapping[str, Mapping[str, Any]], models: Mapping[str, Any], settings: Settings) -> Table:
    """A row for each model, a column for each data set: accuracy, and macro-F1 behind it."""
    sets = list(settings.datasets)
    rows = [
        {"model": name, "dataset": key, **{score: results[name][key][score] for score in (*metrics.SCORES, "images")}}
        for name in models
        for key in sets
    ]
    cells = [
        (
            name,
            next(iter(results[name].values()))["trained_on"],
            *(f"{words.score(each['accuracy'])} ({words.score(each['macro_f1'])})" for each in results[name].values()),
        )
        for name in models
    ]
    first = next(iter(results.values()))
    caption = "Accuracy (macro-F1) on the test images of each data set: " + ", ".join(
        f"{key} {first[key]['images']:,}" for key in sets
    )
    header = ("Model", "Trained on", *sets)
    return Table("cross", f"{caption}. One training of each model.", pd.DataFrame(rows), header, tuple(cells))


def heat_map(accuracies: np.ndarray, models: Sequence[str], sets: Sequence[str]) -> Figure:
    """accuracies (M, D) as coloured cells with their values."""
    with drawing.mpl.rc_context(drawing.STYLE | {"axes.grid": False, "axes.linewidth": 0}):
        figure = Figure(figsize=(2.5 + 1.2 * len(sets), 1.2 + 0.5 * len(models)), layout="constrained")
        axes = figure.subplots()
        mesh = axes.pcolormesh(accuracies, cmap=drawing.SHARES, vmin=0, vmax=1, edgecolors=drawing.PAPER)
        axes.set_xticks(np.arange(len(sets)) + 0.5, sets)
        axes.set_yticks(np.arange(len(models)) + 0.5, models)
        axes.invert_yaxis()
        axes.set_xlabel("tested on")
        for (row, column), value in np.ndenumerate(accuracies):
            tone = "#fefefe" if value > 0.45 else "#12324d"
            axes.text(column + 0.5, row + 0.5, f"{value:.1%}", ha="center", va="center", color=tone)
        figure.colorbar(mesh, ax=axes).ax.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


if __name__ == "__main__":
    run(main)
