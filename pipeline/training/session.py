"""One training, from what it is told to the files that it leaves; one that was killed goes on.

It knows nothing of params.yaml, DVC and MLflow, and runs where there are none: an `Assignment` says what is to be
trained, a `Tracker` is told of the epochs and of what came of them.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from pipeline.base import code
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import FIT, TEACHERS, replicate_folder
from pipeline.base.places import study as study_name
from pipeline.images import packed
from pipeline.inference import forward
from pipeline.inference.device import be_deterministic, pick_device, processor
from pipeline.records.before import Before
from pipeline.records.diary import Diary, Epoch, Machine
from pipeline.training import distributed, renamed, resume
from pipeline.training.fit import Trainer
from pipeline.training.record import Fit
from pipeline.training.task import Task, prepared, trainer

MODELS, HISTORIES = Path("models"), Path("reports/histories")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What is to be trained, as plain values."""

    config: dict[str, Any]  # resolved: model, network, augmentation, training
    normalise: str  # by the statistics of what: imagenet, dataset
    source: str  # of the images, as MLflow shows it
    commit: str  # of the code; empty outside git
    split: int | None = None  # the replicate whose images these are; None: its own
    teaches: bool = False  # whether this is a teacher's, which comes before all others and is left elsewhere
    former: tuple[Path, ...] = ()  # folders of trainings that params.yaml names no more: it may be one of them, renamed


class Tracker(Protocol):
    """Whom a training tells; `tracking.run.Run` tells MLflow."""

    id: str

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Which images are used."""
        ...

    def later(self, values: Mapping[str, float | None], step: int) -> None:
        """Scores after an epoch, which can wait where nobody hears."""
        ...

    def settle(self) -> None:
        """What has waited may wait no longer."""
        ...

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """What came of the training."""
        ...

    def artifact(self, path: Path) -> None:
        """A file that it left."""
        ...

    def model(self, folder: Path, example: np.ndarray, resize: str) -> None:
        """The trained model."""
        ...


Opened = Callable[[str, str, Mapping[str, Any], str], AbstractContextManager[Tracker]]


def train(assignment: Assignment, opened: Opened, until: float = math.inf) -> None:
    """Train what is assigned on the packed images of the current folder, and leave models/NAME and its history.

    A teacher's are left in data/teachers.

    `opened` is called with the training's name, its fingerprint, its settings and the tracker's id of an earlier call,
    empty if there was none. A training that would not end by `until`, seconds since 1970, keeps its state and raises
    PassingError. In a group of processes, the first alone logs and saves.
    """
    training = begun(assignment)
    earlier = renamed.found(assignment.former, assignment.config["replicate"], training.key_as)
    if distributed.rank() > 0:
        if earlier is None:
            training.trainer().run()
    elif earlier is not None:
        taken(training, earlier, assignment.source, opened)
    else:
        record(training, assignment.source, opened, until)


def begun(assignment: Assignment) -> "Training":
    """What is settled of a training before it begins: its images are read, its network is built."""
    config, split = assignment.config, assignment.split
    folder = replicate_folder(FIT, config["replicate"] if split is None else split)
    info = packed.read_info(folder)
    device = pick_device(config["train"]["device"])
    if config["train"]["deterministic"]:
        be_deterministic()
    task = prepared(config, folder, info, assignment.normalise, device)
    form = task.recipe.format
    config = {**config, "normalise": {"mean": form.mean, "std": form.std}}
    machine = describe_machine(device, task.precision)
    key = fingerprint(config, machine)
    return Training(config, task, device, machine, key, assignment.commit, info["resize"], assignment.teaches)


@dataclasses.dataclass(frozen=True)
class Training:
    """What is settled of a training before it begins."""

    config: dict[str, Any]  # resolved
    task: Task
    device: torch.device
    machine: Machine
    key: str  # its fingerprint
    commit: str  # of the code
    resize: str  # how split brought images into their form
    teaches: bool = False

    def trainer(self) -> Trainer:
        """What trains it."""
        return trainer(self.task, self.config, self.device)

    def key_as(self, model: str) -> str:
        """The fingerprint that it would have if its model had another name."""
        return fingerprint({**self.config, "model": model}, self.machine)

    @property
    def name(self) -> str:
        return f"{self.config['model']}-{self.config['replicate']}"

    @property
    def folder(self) -> Path:
        return (TEACHERS if self.teaches else MODELS) / self.name

    @property
    def history(self) -> Path:
        return (TEACHERS if self.teaches else HISTORIES) / f"{self.name}.csv"


def record(training: Training, source: str, opened: Opened, until: float = math.inf) -> None:
    """Train, log and save; a training that was killed goes on. `source` is the data set's."""
    name, started = training.name, datetime.now(UTC).isoformat(timespec="seconds")
    with under_way(training, name, training.config, source, opened, until) as (kept, tracked):
        fit = fitted(training, name, kept, tracked)
        diary = diary_of(training, fit, tracked.id, started)
        save(training, fit, diary, kept.folder)
        log(training, diary, tracked)
    print(
        f"train: {name} validation macro-F1 {shown(fit.selected.val_macro_f1)} at epoch {fit.selected.epoch} of"
        f" {len(fit.history)}, {fit.seconds:.1f} s on {training.machine.device}"
    )


def taken(training: Training, earlier: renamed.Earlier, source: str, opened: Opened) -> None:
    """Take what the same training left under its model's former name, and log it as if it had been trained."""
    name, config = training.name, {**training.config, "taken_from": earlier.folder.name}
    with under_way(training, name, config, source, opened) as (_, tracked):
        diary = dataclasses.replace(earlier.diary, key=training.key, mlflow_run=tracked.id)
        renamed.take(earlier, training.folder, training.history, training.config, diary)
        for row in pd.read_csv(training.history).to_dict("records"):
            tracked.later({str(key): value for key, value in row.items()}, step=int(row["epoch"]))
        log(training, diary, tracked)
    former = earlier.folder.name
    print(f"train: {name} is {former} under another name: taken from models/{former}, not trained again")


@contextlib.contextmanager
def under_way(
    training: Training, name: str, config: Mapping[str, Any], source: str, opened: Opened, until: float = math.inf
) -> Iterator[tuple[resume.Resume, Tracker]]:
    """The state of a training and its tracker, which is told the settings `config` and where the images come from."""
    values, data = {**config, "machine": dataclasses.asdict(training.machine)}, config["data"]
    with resume.opened(training.key, until) as kept, opened(name, training.key, values, kept.run) as tracked:
        kept.note(run=tracked.id, study=study_name(), training=name, epochs=config["train"]["epochs"])
        tracked.dataset(data["title"], data["digest"], source, "training")
        yield kept, tracked


def diary_of(training: Training, fit: Fit, mlflow_run: str, started: str) -> Diary:
    images = len(training.task.train_images)
    return Diary(
        key=training.key,
        mlflow_run=mlflow_run,
        commit=training.commit,
        started=started,
        machine=training.machine,
        seconds=fit.seconds,
        train_images=images,
        images_per_second=images * len(fit.history) / fit.seconds,
        selected=fit.selected,
        usage=fit.usage,
    )


def fitted(training: Training, name: str, kept: resume.Resume, tracked: Tracker) -> Fit:
    """Train, while each epoch is shown, logged and, with `train.keep_epochs`, kept."""
    protocol = training.config["train"]
    with tqdm(total=protocol["epochs"], desc=name, unit="epoch", disable=None) as bar:
        listener = Listener(len(training.task.train_images), tracked, bar, kept.folder / "epochs")
        on_weights = listener.keep if protocol["keep_epochs"] else None
        return training.trainer().run(listener.tell, on_weights, kept)


class Listener:
    """Passes on what a training says of its epochs."""

    def __init__(self, images: int, tracked: Tracker, bar: tqdm, folder: Path) -> None:
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


def adopt(earlier: Before) -> None:
    """Leave a training that was a teacher's, to the byte, as if it had run here."""
    assert earlier.itself is not None
    with written_whole(HISTORIES / f"{earlier.name}.csv") as partial:
        shutil.copyfile(earlier.history, partial)
    with written_whole(MODELS / earlier.name) as partial:
        shutil.copytree(earlier.itself, partial)
    print(f"train: {earlier.name} was trained as a teacher, before its students")


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


def log(training: Training, diary: Diary, tracked: Tracker) -> None:
    """Tell MLflow of the selected epoch and the model."""
    tracked.settle()
    tracked.artifact(training.history)
    tracked.model(training.folder, training.task.train_images.pixels[:1].numpy(), training.resize)
    tracked.metrics(diary.measured())


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
