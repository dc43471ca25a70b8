"""`versus unpack`: what a pack's trainings came to, put where DVC would have put it.

A result is taken only if this checkout made the pack, if code, settings and images are still those of the pack, and if
what it brings holds together (refusals.py). Nothing of it is executed or unpickled. DVC then records the outputs as its
own, MLflow gets a run for each training, with its points and times as they were, and evaluate scores the logits that
the network gave there.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.anywhere import pack, refusals, results
from pipeline.anywhere.contents import Stored, Task
from pipeline.anywhere.results import STATE, File, Result
from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.files import locked, remove, sha256, written_whole
from pipeline.base.places import FIT, TEST, checkout, replicate_folder, state_folder
from pipeline.images import packed
from pipeline.launch import plan
from pipeline.launch.plan import Group
from pipeline.records.diary import Diary, from_plain
from pipeline.scoring import metrics
from pipeline.stages.evaluate import WEIGHTS, evaluate
from pipeline.tracking import runs

LATEST = 1e11  # seconds since 1970: a time that is none


@dataclasses.dataclass(frozen=True)
class Share:
    """What the results of a pack have of one study."""

    content: dict[str, Any]  # the pack's list, as this checkout remembers it
    study: str
    results: Sequence[Result]

    @property
    def folder(self) -> Path:
        """The study's; the default study is the checkout itself."""
        root = checkout() or Path()
        folder = root / "studies" / self.study
        return folder if folder.is_dir() else root

    @property
    def tasks(self) -> list[Task]:
        return [Task(**each) for each in self.content["tasks"] if each["study"] == self.study]

    @property
    def stored(self) -> list[Stored]:
        return [Stored(**each) for each in self.content["files"] if each["study"] == self.study]


@dataclasses.dataclass(frozen=True)
class Note:
    """What a training said after an epoch, and when."""

    time: float  # seconds since 1970
    step: int  # the epoch, from 1; 0 when it began
    values: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Brought:
    """A training that a result has, and where its files are looked at: a folder laid out as the study's."""

    task: Task
    result: Result
    above: Path

    @property
    def files(self) -> list[File]:
        named = [file for file in self.result.manifest.files if file.training == self.task.label]
        return [file for file in named if file.kind != STATE]

    @property
    def state(self) -> str:
        """done, begun, waiting or failed, with the reason."""
        found = (each for each in self.result.manifest.trainings if each["name"] == self.task.label)
        return next((f"{each['state']} {each['reason']}".strip() for each in found), "waiting")

    @property
    def missing(self) -> list[str]:
        """The kinds of files of which something stayed there."""
        return sorted({file.kind for file in self.files if not self.result.has(file)})

    @property
    def complete(self) -> bool:
        return self.state == "done" and not self.missing

    @property
    def logits(self) -> Path:
        return self.above / f"data/logits/{self.task.name}.npy"

    @functools.cached_property
    def notes(self) -> list[Note]:
        """What it said when it began and after each epoch; empty where the file is no such list."""
        try:
            lines = (self.above / f"told/{self.task.name}.jsonl").read_text(encoding="utf-8").splitlines()
            notes = [from_plain(Note, json.loads(line)) for line in lines]
        except (OSError, ValueError, RecursionError):
            return []
        whole = [note.step for note in notes] == list(range(self.task.epochs + 1))
        return notes if whole and all(0 < note.time < LATEST for note in notes) else []

    @property
    def model(self) -> Path:
        return self.above / "models" / self.task.name

    def lay_out(self) -> None:
        """Write what is here of it; raises StageError for a file that is not what the result's list says."""
        for file in self.files:
            if self.result.has(file):
                self.result.copy(file, self.above / file.path)


def unpack(paths: Sequence[Path]) -> int:
    """Take the results in `paths`; prints a line for each training, and returns how many DVC would still train here.

    Raises StageError, before anything is written, for what is damaged, forged, or not of this checkout's code, settings
    and images.
    """
    shares = shares_of(results.read(paths, pack.known()))
    for share in shares:
        refusals.refuse_other_code(share.content)
        with contextlib.chdir(share.folder):
            refusals.refuse_other_settings(share.tasks)
            refusals.refuse_other_images(share.stored)
    with locked("unpack", "another process unpacks; waiting"), scratch() as folder:
        looked = [(share, *looked_at(share, folder / str(number))) for number, share in enumerate(shares)]
        for share, fresh, unscored, _ in looked:
            with contextlib.chdir(share.folder):
                take(fresh, unscored)
    return sum(left for *_, left in looked)


def shares_of(found: Sequence[Result]) -> list[Share]:
    """The results by their packs and studies."""
    shares = []
    for name in dict.fromkeys(result.manifest.pack for result in found):
        content = json.loads(pack.place(name).read_text(encoding="utf-8"))["list"]
        of_pack = [result for result in found if result.manifest.pack == name]
        shares += [
            Share(content, study, of_pack) for study in dict.fromkeys(task["study"] for task in content["tasks"])
        ]
    return shares


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what is looked at before it is taken."""
    folder = state_folder() / "unpacked"
    remove(folder)
    try:
        yield folder
    finally:
        remove(folder)


def looked_at(share: Share, above: Path) -> tuple[list[Brought], list[Brought], int]:
    """The trainings to take and those to score, which hold together and are new here; how many DVC would still train.

    Prints a line for each of the others.
    """
    found = [best(share, task, above) for task in share.tasks]
    with contextlib.chdir(share.folder):
        if not git.dvc(Path(), "repro", "--quiet", "source"):  # DVC records the code by what this stage leaves
            raise StageError("unpack: the stage source failed; what it said stands above")
        untrained, unscored = new(found, "train"), new(found, "train", "evaluate")
        taken = []
        for brought in found:
            name, untaken = brought.task.name, brought.task.name in untrained
            if not untaken and name not in unscored:
                print(f"{brought.task.label}: DVC has it already")
            elif not untaken and not is_of(brought, Path("models") / name):
                print(f"{brought.task.label}: trained here meanwhile, which stays; run `dvc repro`")
            elif not brought.complete:
                print(f"{brought.task.label}: {told(brought)}")
            else:
                brought.lay_out()
                refusals.refuse_what_does_not_hold_together(brought.task, brought.above)
                if not brought.notes:
                    raise StageError(
                        f"unpack: {brought.task.label}: what it said of its epochs is no such list; refused"
                    )
                taken.append(brought)
        fresh = [brought for brought in taken if brought.task.name in untrained]
        return fresh, taken, len(untrained) - len(fresh)


def best(share: Share, task: Task, above: Path) -> Brought:
    """A training as the result has it that has most of it."""
    found = [Brought(task, result, above) for result in share.results]
    return max(found, key=lambda each: (each.complete, each.state == "done", not each.state.startswith("waiting")))


def new(found: Sequence[Brought], *stages: str) -> set[str]:
    """The trainings of which `dvc repro` would run one of the stages."""
    names = [brought.task.name for brought in found]
    groups = [Group(name, [f"{stage}@{name}" for stage in stages], []) for name in names]
    with plan.opened(Path(), "unpack") as repo:
        return {group.key for group in plan.to_run(repo, groups)}


def is_of(brought: Brought, folder: Path) -> bool:
    """Whether the weights in a folder are those that were brought."""
    path = folder / WEIGHTS
    return path.exists() and sha256(path) in {file.sha256 for file in brought.files if file.path == path.as_posix()}


def told(brought: Brought) -> str:
    """What a training that cannot be taken says of itself."""
    if brought.state != "done":
        return brought.state
    brought.lay_out()
    scores = "nothing known"
    if (brought.model / "run.json").exists():
        found = Diary.read(brought.model).selected.val_macro_f1
        scores = "no validation score" if found is None else f"validation macro-F1 {found:.4f}"
    if brought.logits.exists():
        config = brought.task.assignment["config"]
        images, classes = packed.read(replicate_folder(TEST, config["replicate"])), len(config["classes"])
        predicted = refusals.array(brought.logits, (len(images), classes)).argmax(1)
        test = metrics.scores(metrics.confusion_matrix(images.labels.numpy(), predicted, classes))
        scores += f", test accuracy {test['accuracy']:.4f}, macro-F1 {test['macro_f1']:.4f}"
    return f"trained, {scores}; not recorded, for its {' and '.join(brought.missing)} stayed there"


def take(fresh: Sequence[Brought], unscored: Sequence[Brought]) -> None:
    """Put trainings in place, record them, score them and record that; the study's folder is the current one."""
    for brought in fresh:
        place(brought)
    record([f"train@{brought.task.name}" for brought in fresh])
    for brought in unscored:
        first = brought.logits.with_suffix(".first.npy")
        evaluate(brought.task.name, (tensor(brought.logits), tensor(first) if first.exists() else None))
    record([f"evaluate@{brought.task.name}" for brought in unscored])


def place(brought: Brought) -> None:
    """Tell MLflow of a training, and put its files where train leaves them."""
    name = brought.task.name
    history = Path(f"reports/histories/{name}.csv")
    with written_whole(history) as partial:
        shutil.copyfile(brought.above / history, partial)
    tell(brought).write(brought.model)
    with written_whole(Path("models") / name) as partial:
        shutil.copytree(brought.model, partial)


def tell(brought: Brought) -> Diary:
    """Log a training to MLflow as it was, and return its diary with the run's id."""
    task, diary, said = brought.task, Diary.read(brought.model), brought.notes
    config = json.loads((brought.model / "config.json").read_text(encoding="utf-8"))
    fit = replicate_folder(FIT, config["replicate"])
    example, resize = packed.read(fit, "train_").pixels[:1].numpy(), packed.read_info(fit)["resize"]
    values = {**config, "machine": dataclasses.asdict(diary.machine)}
    with runs.elsewhere(task.name, diary.key, values, said[0].time, said[-1].time) as tracked:
        diary = dataclasses.replace(diary, mlflow_run=tracked.id)
        diary.write(brought.model)
        tracked.dataset(config["data"]["title"], config["data"]["digest"], task.assignment["source"], "training")
        for note in said[1:]:
            tracked.metrics(note.values, note.step, at=note.time)
        tracked.artifact(Path(f"reports/histories/{task.name}.csv"))
        tracked.model(brought.model, example, resize)
        tracked.metrics(diary.measured())
    return diary


def tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path, allow_pickle=False))


def record(stages: Sequence[str]) -> None:
    """Have DVC take the outputs of stages as they lie here."""
    with plan.opened(Path(), "unpack") as repo:
        plan.record(repo, stages)
