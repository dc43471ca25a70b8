"""`versus unpack`: what a pack's trainings came to, put where DVC would have put it.

A result is taken only if this checkout made the pack, and code, settings and images are still those of the pack; and
only if what it brings holds together: every file has its SHA-256, the weights give the logits, the logits the scores.
Nothing of it is executed or unpickled. DVC then records the outputs as its own, MLflow gets a run for each training,
with its points and times as they were, and evaluate scores the logits that the network gave there.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.anywhere import pack, results
from pipeline.anywhere.contents import Stored, Task
from pipeline.anywhere.results import STATE, File, Result
from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.files import remove, sha256, written_whole
from pipeline.base.places import FIT, TEST, checkout, fold_folder
from pipeline.images import packed
from pipeline.inference import forward, loading
from pipeline.params.read import load_params
from pipeline.records.diary import Diary
from pipeline.scoring import metrics
from pipeline.stages.evaluate import evaluate
from pipeline.tracking import runs
from pipeline.training.task import resolve

LOOKED_AT = 64  # test images whose logits are computed anew
CLOSE = 0.02  # of the logits' range, within which another machine's may lie: TF32 and other sums of floats


@dataclasses.dataclass(frozen=True)
class Brought:
    """A training that a result has all files of."""

    task: Task
    result: Result
    files: Mapping[str, File]  # by their paths

    def copy(self, path: str, target: Path) -> None:
        self.result.copy(self.files[path], target)


def unpack(paths: Sequence[Path]) -> None:
    """Take the results in `paths`; prints a line for each training.

    Raises StageError, before anything is written, for what is damaged, forged, or not of this checkout's code, settings
    and images.
    """
    found = [(result, listed(result)) for result in results.read(paths, pack.known())]
    for _, content in found:
        refuse_other_code(content)
        for study, tasks in by_study(content).items():
            with contextlib.chdir(folder_of(study)):
                refuse_other_settings(tasks)
                refuse_other_images([Stored(**file) for file in content["files"] if file["study"] == study])
    for result, content in found:
        for study, tasks in by_study(content).items():
            with contextlib.chdir(folder_of(study)):
                take(result, tasks)


def listed(result: Result) -> dict[str, Any]:
    """What this checkout remembers of a result's pack."""
    return dict(json.loads(pack.place(result.manifest.pack).read_text(encoding="utf-8"))["list"])


def by_study(content: Mapping[str, Any]) -> dict[str, list[Task]]:
    tasks = [Task(**task) for task in content["tasks"]]
    return {study: [task for task in tasks if task.study == study] for study in dict.fromkeys(t.study for t in tasks)}


def folder_of(study: str) -> Path:
    """A study's folder; the default study is the checkout itself."""
    root = checkout() or Path()
    folder = root / "studies" / study
    return folder if folder.is_dir() else root


def refuse_other_code(content: Mapping[str, Any]) -> None:
    for stage, digest in pack.code_digests().items():
        if content["code"][stage] != digest:
            raise StageError(
                f"unpack: {stage}'s code is not what was packed (commit {content['commit'][:12]}); check that"
                " out and unpack there, or pack anew"
            )


def refuse_other_settings(tasks: Sequence[Task]) -> None:
    settings = load_params()
    for task in tasks:
        model, _, replicate = task.name.rpartition("-")
        if model not in settings.models or int(replicate) not in settings.replicates:
            raise StageError(f"unpack: params.yaml has no {task.name} any more; bring it back, or pack anew")
        info = packed.read_info(fold_folder(FIT, int(replicate)))
        now = json.loads(json.dumps(resolve(settings, model, int(replicate), info)))
        if differing := sorted(key for key, value in now.items() if value != task.assignment["config"].get(key)):
            raise StageError(
                f"unpack: {task.label}: other settings than those packed ({', '.join(differing)}); bring params.yaml"
                " back, or pack anew"
            )


def refuse_other_images(files: Sequence[Stored]) -> None:
    for file in files:
        path = Path(file.path)
        if not path.exists() or sha256(path) != file.sha256:
            raise StageError(
                f"unpack: {path} is not what was packed; run `dvc repro split` for these images, or pack anew"
            )


def take(result: Result, tasks: Sequence[Task]) -> None:
    """Put the trainings of a study that a result has where they belong; the study's folder is the current one."""
    states = {each["name"]: each for each in result.manifest.trainings}
    brought = []
    for task in tasks:
        files = {
            file.path: file for file in result.manifest.files if file.training == task.label and file.kind != STATE
        }
        state = states.get(task.label, {"state": "waiting", "reason": ""})
        missing = sorted({file.kind for file in files.values() if not result.has(file)})
        if state["state"] != "done":
            print(f"{task.label}: {state['state']} {state['reason']}".rstrip())
        elif missing:
            print(f"{task.label}: trained, {score(result, files, task)}; its {' and '.join(missing)} stayed there")
        else:
            brought.append(Brought(task, result, files))
    for each in brought:
        place(each)
    if brought:
        record(["train@" + each.task.name for each in brought])
        for each in brought:
            score_it(each)
        record(["evaluate@" + each.task.name for each in brought])


def score(result: Result, files: Mapping[str, File], task: Task) -> str:
    """What a training says of itself, where its weights are not here."""
    note = files.get(f"models/{task.name}/run.json")
    if note is None or not result.has(note):
        return "nothing known"
    with scratch(task.name) as folder:
        result.copy(note, folder / "run.json")
        selected = Diary.read(folder).selected
    return f"validation macro-F1 {selected.val_macro_f1:.4f}" if selected.val_macro_f1 is not None else "no validation"


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder of a training's name for what is looked at before it is taken."""
    above = Path("models") / f".unpacked-{name}.part"
    remove(above)
    try:
        yield above / name
    finally:
        remove(above)


def place(brought: Brought) -> None:
    """Look at a training, tell MLflow of it, and put its files in place."""
    name, inside = brought.task.name, f"models/{brought.task.name}/"
    with scratch(name) as folder:
        for path in brought.files:
            if path.startswith(inside):
                brought.copy(path, folder / path.removeprefix(inside))
        brought.copy(f"data/logits/{name}.npy", folder / "test_logits.npy")
        brought.copy(f"told/{name}.jsonl", folder / "told.jsonl")
        refuse_what_does_not_hold_together(brought.task, folder)
        brought.copy(f"reports/histories/{name}.csv", Path(f"reports/histories/{name}.csv"))
        diary = tell(brought, folder)
        diary.write(folder)
        for extra in ("test_logits.npy", "told.jsonl"):
            remove(folder / extra)
        with written_whole(Path("models") / name) as partial:
            folder.rename(partial)


def refuse_what_does_not_hold_together(task: Task, folder: Path) -> None:
    """Raises StageError unless the settings are those packed, the weights give the logits, the logits the scores."""
    replicate = task.assignment["config"]["replicate"]
    network, config = loading.load(folder)
    config = {key: value for key, value in config.items() if key != "normalise"}
    if config != task.assignment["config"]:
        raise StageError(f"{task.label}: its config.json is not what was packed; refused")
    form = loading.image_format(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    images = packed.read(fold_folder(TEST, replicate))
    logits = array(folder / "test_logits.npy", (len(images), len(config["classes"])))
    rows = torch.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).long()
    here, there = forward.predict(network, packed.rows(images, rows), form, torch.device("cpu")), logits[rows.numpy()]
    if not np.allclose(here.numpy(), there, atol=CLOSE * max(1e-6, np.ptp(there))):
        raise StageError(f"{task.label}: its weights do not give its logits; refused")
    diary = Diary.read(folder)
    if (folder / "val_logits.npy").exists():
        labels = np.load(fold_folder(FIT, replicate) / "val_labels.npy", allow_pickle=False)
        found = array(folder / "val_logits.npy", (len(labels), len(config["classes"])))
        macro_f1 = metrics.scores(metrics.confusion_matrix(labels, found.argmax(1), len(config["classes"])))["macro_f1"]
        if abs(macro_f1 - (diary.selected.val_macro_f1 or 0.0)) > 1e-9:
            raise StageError(f"{task.label}: its validation score is not that of its logits; refused")


def array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A float32 array from another machine."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        found = np.empty(0)
    if found.shape != shape or found.dtype != np.float32:
        raise StageError(f"{path.name}: no array of {shape[0]} x {shape[1]} logits; refused")
    return found


def tell(brought: Brought, folder: Path) -> Diary:
    """Log a training to MLflow as it was, and return its diary with the run's id."""
    task, diary = brought.task, Diary.read(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    notes = [json.loads(line) for line in (folder / "told.jsonl").read_text(encoding="utf-8").splitlines()]
    began, ended = notes[0]["time"], notes[-1]["time"]
    values = {**config, "machine": dataclasses.asdict(diary.machine)}
    images = packed.read_info(fold_folder(FIT, config["replicate"]))
    example = packed.read(fold_folder(FIT, config["replicate"]), "train_").pixels[:1].numpy()
    with runs.elsewhere(task.name, diary.key, values, began, ended) as tracked:
        diary = dataclasses.replace(diary, mlflow_run=tracked.id)
        tracked.dataset(config["data"]["title"], config["data"]["digest"], task.assignment["source"], "training")
        for note in notes:
            if note["step"]:
                tracked.metrics(note["values"], note["step"], at=note["time"])
        diary.write(folder)
        tracked.artifact(Path(f"reports/histories/{task.name}.csv"))
        tracked.model(folder, example, images["resize"])
        chosen = {f"selected_{key}": value for key, value in dataclasses.asdict(diary.selected).items() if key != "lr"}
        tracked.metrics({**chosen, "train_seconds": diary.seconds, "images_per_second": diary.images_per_second})
    return diary


def score_it(brought: Brought) -> None:
    """Score the logits that the network gave there."""
    name = brought.task.name
    with scratch(name) as folder:
        given: dict[str, torch.Tensor] = {}
        for suffix in ("", ".first"):
            path = f"data/logits/{name}{suffix}.npy"
            if path in brought.files:
                brought.copy(path, folder / f"logits{suffix}.npy")
                given[suffix] = torch.from_numpy(np.load(folder / f"logits{suffix}.npy", allow_pickle=False))
        evaluate(name, (given[""], given.get(".first")))


def record(stages: Sequence[str]) -> None:
    """Have DVC take the outputs of stages as they lie here, into its cache, its run-cache and dvc.lock."""
    if not git.dvc(Path(), "commit", "--force", "--quiet", *stages):
        raise StageError("unpack: DVC could not record the results; what it said stands above")
