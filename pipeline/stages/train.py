"""Train one model from one seed: `python -m pipeline.stages.train MODEL REPLICATE`.

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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from pipeline.base import code
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.git import commit
from pipeline.base.places import FIT, fold_folder
from pipeline.base.places import study as study_name
from pipeline.base.process import run
from pipeline.images import packed
from pipeline.inference import forward
from pipeline.inference.device import be_deterministic, keep_freed_memory, pick_device, processor
from pipeline.params.read import load_params
from pipeline.records.diary import Diary, Epoch, Machine
from pipeline.tracking import runs
from pipeline.tracking.run import Run
from pipeline.training import distributed, resume
from pipeline.training.record import Fit
from pipeline.training.task import Task, prepared, resolve, trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.stages.train", description="Train one model from one seed."
    )
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="the seed of initialisation, order and augmentation")
    arguments = parser.parse_args()
    train(arguments.model, arguments.replicate)


def train(name: str, replicate: int) -> None:
    """Train a model of params.yaml from one seed; on several devices, in as many processes."""
    keep_freed_memory()
    study = load_params()
    if name not in study.models:
        raise StageError(f"train: no model {name!r} in params.yaml; choose from {', '.join(study.models)}")
    folder = fold_folder(FIT, replicate)
    info = packed.read_info(folder)
    config = resolve(study, name, replicate, info)
    protocol = config["train"]
    device = pick_device(protocol["device"])
    if protocol["deterministic"]:
        be_deterministic()
    if protocol["devices"] > 1 and not distributed.launched():
        distributed.spawn(protocol["devices"], device.type, "pipeline.stages.train", name, str(replicate))
        return
    task = prepared(config, folder, info, study.dataset.normalise, device)
    if distributed.rank() > 0:  # process 0 alone logs and saves
        trainer(task, config, device).run()
        return
    form = task.recipe.format
    config["normalise"] = {"mean": form.mean, "std": form.std}
    machine = describe_machine(device, task.precision)
    training = Training(config, task, device, machine, fingerprint(config, machine))
    record(training, study.dataset.source or info["dataset"], info["resize"])


@dataclasses.dataclass(frozen=True)
class Training:
    """What is settled of a training before it begins."""

    config: dict[str, Any]  # resolved
    task: Task
    device: torch.device
    machine: Machine
    key: str  # its fingerprint

    @property
    def name(self) -> str:
        return f"{self.config['model']}-{self.config['replicate']}"

    @property
    def folder(self) -> Path:
        return Path("models") / self.name

    @property
    def history(self) -> Path:
        return Path(f"reports/histories/{self.name}.csv")


def record(training: Training, source: str, resize: str) -> None:
    """Train, log and save; a training that was killed goes on. `source` is the data set's, `resize` is split's way."""
    name, data, started = training.name, training.config["data"], datetime.now(UTC).isoformat(timespec="seconds")
    values = {**training.config, "machine": dataclasses.asdict(training.machine)}
    with resume.opened(training.key) as kept, runs.training_run(name, training.key, values, kept.run) as tracked:
        kept.note(run=tracked.id, study=study_name(), training=name, epochs=training.config["train"]["epochs"])
        tracked.dataset(data["title"], data["digest"], source, "training")
        fit = fitted(training, kept, tracked)
        diary = diary_of(training, fit, tracked.id, started)
        save(training, fit, diary, kept.folder)
        log(training, diary, tracked, resize)
    print(
        f"train: {name} validation macro-F1 {shown(fit.selected.val_macro_f1)} at epoch {fit.selected.epoch} of"
        f" {len(fit.history)}, {fit.seconds:.1f} s on {training.machine.device}"
    )


def diary_of(training: Training, fit: Fit, mlflow_run: str, started: str) -> Diary:
    images = len(training.task.train_images)
    return Diary(
        key=training.key,
        mlflow_run=mlflow_run,
        commit=commit(),
        started=started,
        machine=training.machine,
        seconds=fit.seconds,
        train_images=images,
        images_per_second=images * len(fit.history) / fit.seconds,
        selected=fit.selected,
    )


def fitted(training: Training, kept: resume.Resume, tracked: Run) -> Fit:
    """Train, while each epoch is shown, logged and, with `train.keep_epochs`, kept."""
    protocol = training.config["train"]
    with tqdm(total=protocol["epochs"], desc=training.name, unit="epoch", disable=None) as bar:
        listener = Listener(len(training.task.train_images), tracked, bar, kept.folder / "epochs")
        on_weights = listener.keep if protocol["keep_epochs"] else None
        return trainer(training.task, training.config, training.device).run(listener.tell, on_weights, kept)


class Listener:
    """Passes on what a training says of its epochs."""

    def __init__(self, images: int, tracked: Run, bar: tqdm, folder: Path) -> None:
        """`images` are those of an epoch; `folder` is for the weights."""
        self.images, self.tracked, self.bar, self.folder = images, tracked, bar, folder
        self.begun = time.perf_counter()

    def tell(self, epoch: Epoch) -> None:
        """Log an epoch and show it."""
        self.tracked.later(dataclasses.asdict(epoch), step=epoch.epoch)
        speed = self.images * epoch.epoch / (time.perf_counter() - self.begun)
        told = {"images/s": f"{speed:,.0f}", "val_macro_f1": shown(epoch.val_macro_f1)}
        self.bar.set_postfix(told, refresh=False)
        self.bar.update()

    def keep(self, epoch: int, weights: dict[str, torch.Tensor]) -> None:
        """Save the weights of an epoch."""
        with written_whole(self.folder / f"{epoch:04d}.safetensors") as partial:
            save_weights(weights, partial)


def save(training: Training, fit: Fit, diary: Diary, kept: Path) -> None:
    """Write the history and the model's folder; the weights of all epochs, if wanted, are in `kept`/epochs."""
    logits = val_logits(training, fit)
    with written_whole(training.history) as partial:
        pd.DataFrame(fit.history).to_csv(partial, index=False, lineterminator="\n")
    with written_whole(training.folder) as partial:
        partial.mkdir()
        save_weights(fit.weights, partial / "weights.safetensors")
        if training.config["train"]["keep_epochs"]:
            shutil.copytree(kept / "epochs", partial / "epochs")
        if logits is not None:
            np.save(partial / "val_logits.npy", logits)
        write_json(partial / "config.json", training.config)
        diary.write(partial)


def log(training: Training, diary: Diary, tracked: Run, resize: str) -> None:
    """Tell MLflow of the selected epoch and the model; `resize` is how split brought images into their form."""
    tracked.settle()
    tracked.artifact(training.history)
    tracked.model(training.folder, training.task.train_images.pixels[:1].numpy(), resize)
    chosen = {f"selected_{key}": value for key, value in dataclasses.asdict(diary.selected).items() if key != "lr"}
    tracked.metrics({**chosen, "train_seconds": diary.seconds, "images_per_second": diary.images_per_second})


def val_logits(training: Training, fit: Fit) -> np.ndarray | None:
    """Logits (N, K) of the validation images by the selected weights; None where they were trained on."""
    task = training.task
    if task.val_images is None:
        return None
    task.network.load_state_dict(fit.weights)
    batch_size = training.config["train"]["batch_size"]
    return forward.predict(task.network, task.val_images, task.recipe.format, training.device, batch_size).numpy()


def shown(score: float | None) -> str:
    """A validation score in words; there is none where the validation images were trained on."""
    return "-" if score is None else f"{score:.4f}"


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    save_file({key: value.contiguous() for key, value in weights.items()}, path)


def fingerprint(config: dict[str, Any], machine: Machine) -> str:
    """SHA-256 over what determines a result: configuration, data, code, libraries and kind of device."""
    libraries = {key: getattr(machine, key) for key in ("device", "precision", "threads", "torch", "timm")}
    return hashlib.sha256(json.dumps([config, code.described("train"), libraries], sort_keys=True).encode()).hexdigest()


def describe_machine(device: torch.device, precision: str) -> Machine:
    """The machine as it is, and the precision that was settled on it."""
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processor=processor(),
        threads=torch.get_num_threads(),
        precision=precision,
        python=platform.python_version(),
        torch=version("torch"),
        timm=version("timm"),
    )


if __name__ == "__main__":
    if distributed.launched():
        distributed.run(main)
    else:
        run(main, alone=distributed.first_host())  # the others run the same stage at the same time
