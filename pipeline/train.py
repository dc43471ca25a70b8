"""Train one model from one seed: `python -m pipeline.train MODEL REPLICATE`.

Reads training and validation images only. Leaves models/<model>-<replicate>/ with weights.safetensors, config.json and
val_logits.npy, bytes that a rerun reproduces, and run.json: when, where and how long.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from pipeline import distributed, engine, inference, loader, networks, params, tracking
from pipeline.stage import StageError, commit, run, whole, write_json

FIT = Path("data/fit")
CODE = (
    "augment/*",
    "losses/*",
    "networks/*",
    "optim/*",
    "distributed",
    "engine",
    "inference",
    "loader",
    "metrics",
    "train",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description="Train one model from one seed.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="the seed of initialisation, order and augmentation")
    arguments = parser.parse_args()
    train(arguments.model, arguments.replicate)


def train(name: str, replicate: int) -> None:
    inference.keep_freed_memory()
    study = params.load()
    if name not in study.models:
        raise StageError(f"train: no model {name!r} in params.yaml; choose from {', '.join(study.models)}")
    info = loader.read_info(FIT)
    config = resolve(study, name, replicate, info)
    protocol = config["train"]
    device = inference.pick_device(protocol["device"])
    if protocol["devices"] > 1 and not distributed.launched():
        distributed.spawn(protocol["devices"], device.type, "pipeline.train", name, str(replicate))
        return
    network = networks.build(
        name=name, classes=len(info["classes"]), image_size=config["image_size"], seed=replicate, **config["network"]
    )
    form = loader.format_for(config["image_size"], study.dataset.normalise, info["pixels"], networks.channels(network))
    config["normalise"] = {"mean": form.mean, "std": form.std}
    precision = engine.sound_precision(protocol["precision"], device, network, config["image_size"])
    machine = describe_machine(device, precision)
    key, started = fingerprint(config, machine), datetime.now(UTC).isoformat(timespec="seconds")

    train_images, val_images = loader.read(FIT, "train_"), loader.read(FIT, "val_")

    def fitted(on_epoch: Callable[[engine.Epoch], None] | None = None) -> engine.Fit:
        return engine.fit(
            network,
            train_images,
            val_images,
            loader.recipe(form, info["classes"], info["minority"], config["augment"], info["flip"], device),
            {**protocol, "precision": precision},
            classes=len(info["classes"]),
            seed=replicate,
            device=device,
            on_epoch=on_epoch,
        )

    if distributed.rank() > 0:  # process 0 alone logs and saves
        fitted()
        return

    folder, history_path = Path(f"models/{name}-{replicate}"), Path(f"reports/histories/{name}-{replicate}.csv")
    with tracking.training_run(f"{name}-{replicate}", key, {**config, "machine": machine}) as tracked:
        tracked.dataset(info["title"], info["digest"], study.dataset.source or info["dataset"], "training")
        with tqdm(total=protocol["epochs"], desc=f"{name}-{replicate}", unit="epoch", disable=None) as progress:

            def on_epoch(epoch: engine.Epoch) -> None:
                tracked.metrics(dataclasses.asdict(epoch), step=epoch.epoch)
                progress.set_postfix(val_macro_f1=f"{epoch.val_macro_f1:.4f}", refresh=False)
                progress.update()

            fit = fitted(on_epoch)
        network.load_state_dict(fit.weights)
        logits = inference.predict(network, val_images, form, device, protocol["batch_size"])
        speed = len(train_images) * len(fit.history) / fit.seconds
        diary = {
            "key": key,
            "commit": commit(),
            "started": started,
            "machine": machine,
            "seconds": fit.seconds,
            "images_per_second": speed,
            "selected": dataclasses.asdict(fit.selected),
        }
        with whole(history_path) as partial:
            pd.DataFrame(fit.history).to_csv(partial, index=False, lineterminator="\n")
        with whole(folder) as partial:
            partial.mkdir()
            save_file({key: value.contiguous() for key, value in fit.weights.items()}, partial / "weights.safetensors")
            np.save(partial / "val_logits.npy", logits.numpy())
            write_json(partial / "config.json", config)
            write_json(partial / "run.json", diary)
        tracked.metrics({"train_seconds": fit.seconds, "images_per_second": speed})
        tracked.artifact(history_path)
        tracked.model(folder, example=train_images.pixels[:1].numpy(), classes=info["classes"])
    print(
        f"train: {name}-{replicate} validation macro-F1 {fit.selected.val_macro_f1:.4f} at epoch {fit.selected.epoch}"
        f" of {len(fit.history)}, {fit.seconds:.1f} s on {machine['device']}"
    )


def resolve(study: params.Params, name: str, replicate: int, info: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines a training, as plain values."""
    network = study.models[name].model_dump()
    overrides = network.pop("train") | network.pop("augment")
    return {
        "model": name,
        "replicate": replicate,
        "classes": info["classes"],
        "image_size": study.dataset.image_size,
        "data": {key: info[key] for key in ("dataset", "title", "variant", "digest")},
        "network": network,
        "train": study.model_train(name).model_dump(),
        "overrides": overrides,
        "augment": study.model_augment(name).model_dump(),
        "weights_sha256": file_digest(network["pretrained"]) if isinstance(network["pretrained"], str) else None,
    }


def sources() -> list[Path]:
    """The code that determines a result."""
    return sorted(path for pattern in CODE for path in Path(__file__).parent.glob(f"{pattern}.py"))


def fingerprint(config: dict[str, Any], machine: dict[str, Any]) -> str:
    """SHA-256 over what determines a result: configuration, data, code, libraries and kind of device."""
    code = [file_digest(path) for path in sources()]
    libraries = {key: machine[key] for key in ("device", "precision", "threads", "torch", "timm")}
    return hashlib.sha256(json.dumps([config, code, libraries], sort_keys=True).encode()).hexdigest()


def describe_machine(device: torch.device, precision: str) -> dict[str, Any]:
    """What a training ran on."""
    processor = engine.capabilities().get("cpu_name") or platform.machine()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": f"{processor}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "python": platform.python_version(),
        "torch": version("torch"),
        "timm": version("timm"),
    }


def file_digest(path: str | Path) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); give a path from the study's folder") from None


if __name__ == "__main__":
    (distributed.run if distributed.launched() else run)(main)
