"""A study whose stages really ran, by their own functions: no DVC, no MLflow store, tiny networks, one epoch each."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import trees

BASE = {"pretrained": False, "augment": {}, "train": {}}
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        "family": "tiny",
        "layers": ["conv 8, dw 16, pool", "conv 16 skip, transition 8, conv 16"],
        "blurpool": True,
        "squeeze_excite": 0.25,
        "train": {"epochs": 3, "lr": 0.02},
    },
    "vit": {
        "family": "timm",
        "backbone": "vit_small_patch16_224",
        "args": {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
    },
    "hybrid": {
        "family": "hybrid",
        "backbone": "resnet18",
        "args": {"channels": [8, 8, 16, 16]},
        "feature_level": 2,
        "dim": 24,
        "depth": 1,
        "heads": 2,
        "pool": "class_token",
    },
}
SETTINGS = {
    "dataset.image_size": 16,
    "replicates": [0, 1],
    "train.device": "cpu",
    "train.epochs": 1,
    "train.warmup_epochs": 0,
}
TRAINED = ("tiny-0", "tiny-1", "vit-0", "hybrid-0")  # vit-1 and hybrid-1 are named in params.yaml and not trained


class Untracked(trees.Recorded):
    def confusion(self, *_: Any) -> None:
        pass

    def model(self, *_: Any, **__: Any) -> None:
        pass

    def summarise(self, *_: Any) -> None:
        pass

    def champion(self, *_: Any) -> None:
        pass


def run(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    models: Mapping[str, Mapping[str, Any]] = MODELS,
    trained: Iterable[str] = TRAINED,
) -> Path:
    """Fetch, split, train and evaluate in `folder`."""
    from pipeline.stages import fetch, predictions, split
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train
    from pipeline.tracking import runs

    write(folder, settings or {}, models)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "training_run", "evaluation_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(Untracked()))
        fetch.main()
        split.main()
        for name in trained:
            model, replicate = name.split("-")
            train(model, int(replicate))
            evaluate(name)
        predictions.main()
    return folder


def prepared(folder: Path) -> Path:
    """The images of a study that is written already, fetched and split."""
    from pipeline.stages import fetch, source, split
    from pipeline.tracking import runs

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "data_run", lambda _: contextlib.nullcontext(Untracked()))
        for stage in (source, fetch, split):
            stage.main()
    return folder


def write(folder: Path, settings: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]] = MODELS) -> Path:
    """params.yaml of such a study."""
    content = YAML(typ="safe").load((trees.ROOT / "params.yaml").read_text(encoding="utf-8"))
    trees.put_settings(content, {**SETTINGS, **settings})
    content["models"] = {name: {**BASE, **model} for name, model in models.items()}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(content, file)
    return folder


SCORES = {"cnn-0": (0.7, 0.99), "cnn-1": (0.9, 0.1), "vit-0": (0.8, 0.95), "vit-1": (0.6, 0.97)}


def scores(folder: Path, values: Mapping[str, tuple[float | None, float]], weights: bool = True) -> Path:
    """A made-up study that trained nothing: replicate -> validation (None: trained on, too) and test macro-F1."""
    models = sorted({name.split("-")[0] for name in values})
    write(folder, {}, dict.fromkeys(models, MODELS["tiny"]))
    for name, (validation, test) in values.items():
        run = {"commit": "c", "started": "now"}
        selected = {"val_macro_f1": validation}
        if weights:
            trees.put(folder / f"models/{name}/config.json", b"{}")
            trees.put(folder / f"models/{name}/weights.safetensors", b"")
            content = json.dumps({**run, "selected": selected}).encode()
            trees.put(folder / f"models/{name}/run.json", content)
        evaluation = {"run": run, "selected": selected, "scores": {"accuracy": test, "macro_f1": test}}
        trees.put(folder / f"reports/evaluations/{name}.json", json.dumps(evaluation).encode())
    return folder
