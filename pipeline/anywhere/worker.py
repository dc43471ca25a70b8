"""One training of a pack, on the machine that it was brought to: `python -m pipeline.anywhere.worker TASK.json`.

Runs in the study's folder there, which is laid out as at home. Trains, and leaves the logits of the test images, whose
labels stayed at home. What the training says is noted beside its state, and in told/NAME.jsonl for MLflow at home.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.anywhere.contents import NOTED, told
from pipeline.base.files import written_whole
from pipeline.base.places import TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images import packed
from pipeline.inference import forward, loading
from pipeline.inference.device import be_deterministic, keep_freed_memory, pick_device
from pipeline.training import distributed, resume, session


class Notes:
    """Writes what a training says of its epochs, with the time, into files; an epoch that is there stays as it is.

    A disk that is full costs no training: what could not be written is written with the next epoch.
    """

    def __init__(self, path: Path, training: str, *copies: Path) -> None:
        """`path` has what was noted before; `training` is its fingerprint."""
        self.id, self.paths = training, (path, *copies)
        self.lines: dict[int, str] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):  # of a line that was cut, and what came after it
            for line in path.read_text(encoding="utf-8").splitlines():
                self.lines[json.loads(line)["step"]] = line

    def later(self, values: Mapping[str, float | None], step: int) -> None:
        self.lines.setdefault(step, json.dumps({"time": time.time(), "step": step, "values": dict(values)}))
        for path in self.paths:
            try:
                with written_whole(path) as partial:
                    partial.write_text("".join(f"{line}\n" for line in self.lines.values()), encoding="utf-8")
            except OSError as error:
                print(f"{path}: not written ({error.strerror}); tried again after the next epoch", flush=True)

    def settle(self) -> None:
        pass

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        pass

    def metrics(self, values: Mapping[str, float | None]) -> None:
        pass

    def artifact(self, path: Path) -> None:
        pass

    def model(self, folder: Path, example: np.ndarray, resize: str) -> None:
        pass


@contextlib.contextmanager
def opened(name: str, key: str, _values: Mapping[str, Any], _known: str) -> Iterator[Notes]:
    """A training's notes, beside its state; one that begins on another kind of device has its own."""
    notes = Notes(resume.folders() / key[:32] / NOTED, key, Path(told(name)))
    notes.later({}, 0)  # when it began
    yield notes


def end_with_parent() -> None:
    """End this process and its group once the one that started it is gone, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    if not distributed.launched():
        end_with_parent()
    keep_freed_memory()
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    assignment = session.Assignment(**task["assignment"])
    config = assignment.config
    if not distributed.trained_by_several(config["train"], "pipeline.anywhere.worker", sys.argv[1]):
        session.train(assignment, opened, task["until"])
    if distributed.rank() == 0 and not distributed.launched():
        folder = Path("models") / f"{config['model']}-{config['replicate']}"
        leave_logits(folder)
        resume.discard(json.loads((folder / "run.json").read_text(encoding="utf-8"))["key"])


def leave_logits(folder: Path) -> None:
    """Leave what a trained network says of the test images in data/logits, of one view too where there are several."""
    network, config = loading.load(folder)
    pixels = torch.from_numpy(np.load(replicate_folder(TEST, config["replicate"]) / "images.npy", allow_pickle=False))
    images = packed.Images(pixels, torch.zeros(len(pixels), dtype=torch.long))
    if config["train"].get("deterministic"):
        be_deterministic()
    device, form = pick_device(config["train"]["device"]), loading.image_format(config)
    batch_size = config["train"]["batch_size"]
    every, first = forward.of_views(network, images, form, device, batch_size)
    for suffix, logits in ((".first", first), ("", every)):  # the latter say that all is there
        if logits is not None:
            with written_whole(Path(f"data/logits/{folder.name}{suffix}.npy")) as partial, partial.open("wb") as file:
                np.save(file, logits.numpy())


def machine() -> dict[str, Any]:
    """What this machine is, as a result says it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return dataclasses.asdict(session.describe_machine(device, ""))


if __name__ == "__main__":
    if distributed.launched():
        distributed.run(main)
    else:
        run(main, alone=False)
