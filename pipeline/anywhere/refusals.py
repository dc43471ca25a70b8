"""Results that are not taken: of other code, settings or images than here, or that do not hold together.

A fault is a StageError of one line, and comes before anything is written.
"""

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.anywhere import pack
from pipeline.anywhere.contents import Stored, Task
from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.base.places import CARRIED, FIT, TEST, replicate_folder
from pipeline.images import packed
from pipeline.inference import forward, loading
from pipeline.params.trials import tuned_params
from pipeline.records.diary import Diary, Epoch
from pipeline.scoring import metrics
from pipeline.training import session
from pipeline.training.task import resolve, with_teachers

LOOKED_AT = 64  # test images whose logits are computed anew
CLOSE = 0.02  # of the logits' range, within which another machine's may lie: TF32 and other sums of floats


def refuse_other_code(content: Mapping[str, Any]) -> None:
    """`content` is the list of a pack, as this checkout remembers it."""
    for stage, digest in pack.code_digests().items():
        if content["code"][stage] != digest:
            raise StageError(
                f"unpack: {stage}'s code is not what was packed (commit {content['commit'][:12]}); check that out and"
                " unpack there, or pack anew"
            )


def refuse_other_settings(tasks: Sequence[Task]) -> None:
    """Of the study in the current folder."""
    settings = tuned_params()
    for task in tasks:
        model, _, replicate = task.name.rpartition("-")
        if model not in settings.models or int(replicate) not in settings.replicates:
            raise StageError(f"unpack: params.yaml has no {task.label} any more; bring it back, or pack anew")
        info = packed.read_info(replicate_folder(FIT, int(replicate)))
        now = with_teachers(resolve(settings, model, int(replicate), info))
        now = {**now, "normalise": settings.dataset.normalise}
        then = {**task.assignment["config"], "normalise": task.assignment["normalise"]}
        now = json.loads(json.dumps(now))
        if differing := sorted(key for key in {**now, **then} if now.get(key) != then.get(key)):
            raise StageError(
                f"unpack: {task.label}: other settings than those packed ({', '.join(differing)}); bring params.yaml"
                " back, or pack anew"
            )


def refuse_other_images(files: Sequence[Stored]) -> None:
    """Of the study in the current folder; of files of weights that came along, the settings have the digests."""
    for file in files:
        path = Path(file.path)
        if path.parts[0] == CARRIED:
            continue
        if not path.exists() or sha256(path) != file.sha256:
            raise StageError(f"unpack: {path} is not what was packed; run `dvc repro split`, or pack anew")


def refuse_what_does_not_hold_together(task: Task, brought: Path) -> None:
    """Refuse a training unless its settings are those packed, its weights give its logits, these its scores.

    `brought` is laid out as the study's folder, which is the current one and has the images.
    """
    folder, config = brought / "models" / task.name, task.assignment["config"]
    found = own_settings(task, folder)
    diary = own_diary(task, folder, found)
    try:
        network, _ = loading.load(folder)
    except StageError:
        raise StageError(
            f"unpack: {task.label}: its weights are none of the network that was packed; refused"
        ) from None
    images = packed.read(replicate_folder(TEST, config["replicate"]))
    logits = array(brought / f"data/logits/{task.name}.npy", (len(images), len(config["classes"])))
    rows = torch.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).long()
    form = loading.image_format(found)
    here, there = forward.predict(network, packed.rows(images, rows), form, torch.device("cpu")), logits[rows.numpy()]
    if not np.allclose(here.numpy(), there, atol=CLOSE * max(1e-6, float(np.ptp(there))), equal_nan=True):
        raise StageError(f"unpack: {task.label}: its weights do not give its logits; refused")
    refuse_other_scores(task, brought, diary)


def own_settings(task: Task, folder: Path) -> dict[str, Any]:
    """A training's config.json: the settings that were packed, with the mean and deviation of its images."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rest = {key: value for key, value in found.items() if key != "normalise"}
    except (OSError, ValueError, AttributeError, RecursionError):
        rest = {}
    if rest != task.assignment["config"]:
        raise StageError(f"unpack: {task.label}: its config.json is not what was packed; refused")
    return found


def own_diary(task: Task, folder: Path, config: dict[str, Any]) -> Diary:
    """A training's run.json: that of its settings, of the code that was packed, and of the libraries that it names."""
    with contextlib.suppress(StageError):
        diary = Diary.read(folder)
        if (diary.key, diary.commit) == (session.fingerprint(config, diary.machine), task.assignment["commit"]):
            return diary
    raise StageError(f"unpack: {task.label}: its run.json is not of the training that was packed; refused")


def refuse_other_scores(task: Task, brought: Path, diary: Diary) -> None:
    """Refuse a training whose history, diary and validation logits do not tell the same."""
    scores = val_scores(brought / f"reports/histories/{task.name}.csv", task.epochs)
    epoch, score = diary.selected.epoch, diary.selected.val_macro_f1
    if scores is None or not 1 <= epoch <= task.epochs or not same(scores[epoch - 1], score):
        raise StageError(f"unpack: {task.label}: its history is not that of its run.json; refused")
    logits = brought / "models" / task.name / "val_logits.npy"
    if logits.exists():
        classes = len(task.assignment["config"]["classes"])
        labels = np.load(replicate_folder(FIT, task.assignment["config"]["replicate"]) / "val_labels.npy")
        predicted = array(logits, (len(labels), classes)).argmax(1)
        if not same(metrics.scores(metrics.confusion_matrix(labels, predicted, classes))["macro_f1"], score):
            raise StageError(f"unpack: {task.label}: its validation score is not that of its logits; refused")


def val_scores(path: Path, epochs: int) -> list[float] | None:
    """The validation scores of each epoch in a history, NaN where there are none; None for what is no history."""
    try:
        history = pd.read_csv(path).astype(float)
    except (OSError, ValueError):
        return None
    whole = list(history) == [field.name for field in dataclasses.fields(Epoch)]
    if not whole or list(history["epoch"]) != list(range(1, epochs + 1)):
        return None
    return history["val_macro_f1"].tolist()


def same(one: float, other: float | None) -> bool:
    """Whether two scores are the same; there may be none."""
    return bool(np.isclose(one, np.nan if other is None else other, rtol=0, atol=1e-9, equal_nan=True))


def array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A float32 array from another machine; nothing is unpickled."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # reads no more than there is, whatever it says
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError):
        found = np.empty(0)
    if found.shape != shape or found.dtype != np.float32:
        raise StageError(f"unpack: {path.name} is no array of {shape[0]} x {shape[1]} logits; refused")
    return np.array(found)
