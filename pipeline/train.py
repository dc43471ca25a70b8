"""Train one model from one seed: `python -m pipeline.train MODEL REPLICATE`.

Reads training and validation images only. Leaves models/<model>-<replicate>/ with weights.safetensors, config.json and
val_logits.npy, bytes that a rerun reproduces, and run.json: when, where and how long; with `train.keep_epochs` also
epochs/<number>.safetensors, which nothing selects by. With `train.include_validation` the validation images are trained
on too: then there are no val_logits.npy and no validation scores, for none would say anything of new images.
"""

import argparse
import dataclasses
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from pipeline import distributed, engine, inference, loader, params, resume, tracking
from pipeline.stage import StageError, commit, find, packed, run, whole, write_json
from pipeline.stage import study as study_name
from pipeline.subset import subset

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
    "subset",
    "train",
    "transfer",
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
    images = packed(FIT, replicate)
    info = loader.read_info(images)
    config = resolve(study, name, replicate, info)
    protocol = config["train"]
    device = inference.pick_device(protocol["device"])
    if protocol["deterministic"]:
        inference.be_deterministic()
    if protocol["devices"] > 1 and not distributed.launched():
        distributed.spawn(protocol["devices"], device.type, "pipeline.train", name, str(replicate))
        return
    task = prepared(config, images, info, study.dataset.normalise, device)
    network, form, train_images, val_images = task.network, task.recipe.format, task.train_images, task.val_images
    config["normalise"] = {"mean": form.mean, "std": form.std}
    machine = describe_machine(device, task.precision)
    key, started = fingerprint(config, machine), datetime.now(UTC).isoformat(timespec="seconds")

    def fitted(
        on_epoch: Callable[[engine.Epoch], None] | None = None,
        on_weights: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
        keeper: engine.Keeper | None = None,
    ) -> engine.Fit:
        return engine.fit(
            network,
            train_images,
            val_images,
            task.recipe,
            {**protocol, "precision": task.precision},
            classes=len(info["classes"]),
            seed=replicate,
            device=device,
            on_epoch=on_epoch,
            on_weights=on_weights,
            keeper=keeper,
        )

    if distributed.rank() > 0:  # process 0 alone logs and saves
        fitted()
        return

    folder, history_path = Path(f"models/{name}-{replicate}"), Path(f"reports/histories/{name}-{replicate}.csv")
    values = {**config, "machine": machine}
    with resume.opened(key) as kept, tracking.training_run(f"{name}-{replicate}", key, values, kept.run) as tracked:
        kept.note(run=tracked.id, study=study_name(), training=f"{name}-{replicate}", epochs=protocol["epochs"])
        tracked.dataset(info["title"], info["digest"], study.dataset.source or info["dataset"], "training")
        with tqdm(total=protocol["epochs"], desc=f"{name}-{replicate}", unit="epoch", disable=None) as progress:
            begun = time.perf_counter()

            def on_epoch(epoch: engine.Epoch) -> None:
                tracked.later(dataclasses.asdict(epoch), step=epoch.epoch)
                speed = len(train_images) * epoch.epoch / (time.perf_counter() - begun)
                told = {"images/s": f"{speed:,.0f}", "val_macro_f1": shown(epoch.val_macro_f1)}
                progress.set_postfix(told, refresh=False)
                progress.update()

            def on_weights(epoch: int, weights: dict[str, torch.Tensor]) -> None:
                with whole(kept.folder / f"epochs/{epoch:04d}.safetensors") as partial:
                    save_weights(weights, partial)

            fit = fitted(on_epoch, on_weights if protocol["keep_epochs"] else None, kept)
        network.load_state_dict(fit.weights)
        logits = None
        if val_images is not None:
            logits = inference.predict(network, val_images, form, device, protocol["batch_size"])
        speed = len(train_images) * len(fit.history) / fit.seconds
        diary = {
            "key": key,
            "mlflow_run": tracked.id,
            "commit": commit(),
            "started": started,
            "machine": machine,
            "seconds": fit.seconds,
            "train_images": len(train_images),
            "images_per_second": speed,
            "selected": dataclasses.asdict(fit.selected),
        }
        with whole(history_path) as partial:
            pd.DataFrame(fit.history).to_csv(partial, index=False, lineterminator="\n")
        with whole(folder) as partial:
            partial.mkdir()
            save_weights(fit.weights, partial / "weights.safetensors")
            if protocol["keep_epochs"]:
                shutil.copytree(kept.folder / "epochs", partial / "epochs")
            if logits is not None:
                np.save(partial / "val_logits.npy", logits.numpy())
            write_json(partial / "config.json", config)
            write_json(partial / "run.json", diary)
        tracked.settle()
        tracked.artifact(history_path)
        tracked.model(folder, train_images.pixels[:1].numpy(), info["resize"])
        chosen = {f"selected_{key}": value for key, value in dataclasses.asdict(fit.selected).items() if key != "lr"}
        tracked.metrics({**chosen, "train_seconds": fit.seconds, "images_per_second": speed})
    print(
        f"train: {name}-{replicate} validation macro-F1 {shown(fit.selected.val_macro_f1)} at epoch"
        f" {fit.selected.epoch} of {len(fit.history)}, {fit.seconds:.1f} s on {machine['device']}"
    )


def shown(score: float | None) -> str:
    """A validation score in words; there is none where the validation images were trained on."""
    return "-" if score is None else f"{score:.4f}"


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training works on."""

    network: nn.Module  # as it starts
    recipe: loader.Recipe
    train_images: loader.Images
    val_images: loader.Images | None  # None: they are among the training images
    precision: str  # settled


def prepared(config: dict[str, Any], folder: Path, info: dict[str, Any], normalise: str, device: torch.device) -> Task:
    """The task of a resolved configuration on the packed images in `folder`."""
    network, form = inference.construct(config, info, normalise)
    images, val_images = loader.read(folder, "train_"), loader.read(folder, "val_")
    if config["train"]["targets"] == "votes":
        images = loader.with_votes(images, folder)
    train_images = fraction_of(images, config["train_fraction"], info["seed"])
    including = config["train"]["include_validation"]
    augment, covariance = config["augment"], info["pixels"]["covariance"]
    return Task(
        network=network,
        recipe=loader.recipe(form, info["classes"], info["minority"], augment, info["flip"], device, covariance),
        train_images=loader.joined(train_images, val_images) if including else train_images,
        val_images=None if including else val_images,
        precision=engine.sound_precision(config["train"]["precision"], device, network, form.size),
    )


def resolve(study: params.Params, name: str, replicate: int, info: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines a training, as plain values."""
    model, network = study.models[name], study.network(name)
    fraction, given = model.train_fraction, network["pretrained"]
    overrides = model.train | model.augment | ({"train_fraction": fraction} if fraction < 1 else {})
    return {
        "model": name,
        "replicate": replicate,
        "classes": info["classes"],
        "image_size": study.dataset.image_size,
        "data": {key: info[key] for key in ("dataset", "title", "variant", "digest")},
        "network": network,
        "train_fraction": fraction,
        "train": study.model_train(name).model_dump(),
        "overrides": overrides,
        "augment": study.model_augment(name).model_dump(),
        "weights_sha256": file_digest(find(given) or given) if isinstance(given, str) else None,
    }


def fraction_of(images: loader.Images, fraction: float, seed: int) -> loader.Images:
    """A stratified subset by the split's seed; of one fraction every model and replicate sees the same images."""
    if fraction == 1:
        return images
    return loader.rows(images, torch.from_numpy(subset(images.labels.numpy(), fraction, seed)))


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    save_file({key: value.contiguous() for key, value in weights.items()}, path)


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
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": inference.processor(),
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
    if distributed.launched():
        distributed.run(main)
    else:
        run(main, alone=distributed.first_host())  # the others run the same stage at the same time
