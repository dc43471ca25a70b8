"""What a pack holds, and the folder that it is laid out in: a study's folder is there as it is at home."""

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.anywhere import results
from pipeline.anywhere.results import STATE, File, Manifest, Result
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.images import compressed

LIST, KEY = "pack.json", "pack.key"
FORMAT = 1
TASKS = Path("tasks")  # of a study's folder: what each worker is told


@dataclasses.dataclass(frozen=True)
class Task:
    """A training of a pack."""

    study: str  # its folder's name
    name: str  # cnn-0
    assignment: Mapping[str, Any]  # session.Assignment, as plain values
    images: int  # that an epoch trains on
    seconds: float | None  # that it took at home; None if it never ran there

    @property
    def label(self) -> str:
        return f"{self.study}/{self.name}"

    @property
    def epochs(self) -> int:
        return int(self.assignment["config"]["train"]["epochs"])


@dataclasses.dataclass(frozen=True)
class Stored:
    """A file of a study that a pack holds."""

    study: str
    path: str  # from the study's folder
    entry: str  # in the pack
    pixels: bool  # compressed, as images/compressed.py has it
    sha256: str  # of the file as it is at home


@dataclasses.dataclass(frozen=True)
class Contents:
    """A pack, opened in `folder`."""

    folder: Path
    name: str  # SHA-256 of its list
    commit: str
    part: int
    tasks: Sequence[Task]
    files: Sequence[Stored]
    pack: Path
    key: bytes

    @classmethod
    def open(cls, pack: Path, folder: Path) -> "Contents":
        with zipfile.ZipFile(pack) as archive:
            text, key = archive.read(LIST), archive.read(KEY)
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise StageError(f"{pack.name}: of another version of its own code; pack anew")
        tasks, files = [Task(**each) for each in content["tasks"]], [Stored(**each) for each in content["files"]]
        name = hashlib.sha256(text).hexdigest()
        return cls(folder, name, content["commit"], content["part"], tasks, files, pack, key)

    def keys(self) -> dict[str, bytes]:
        return {self.name: self.key}

    def study(self, name: str) -> Path:
        return self.folder / "studies" / name

    def studies(self) -> dict[str, Path]:
        return {task.study: self.study(task.study) for task in self.tasks}

    def lay_out(self) -> None:
        """Write the files of all studies, unless they are there."""
        with zipfile.ZipFile(self.pack) as archive:
            for file in self.files:
                path = self.study(file.study) / file.path
                if path.exists():
                    continue
                content = archive.read(file.entry)
                with written_whole(path) as partial:
                    if file.pixels:
                        with partial.open("wb") as written:
                            np.save(written, compressed.decompress(content, f"{self.pack.name}: {file.path}"))
                    elif hashlib.sha256(content).hexdigest() == file.sha256:
                        partial.write_bytes(content)
                    else:
                        raise StageError(f"{self.pack.name}: {file.path} is damaged; copy the pack anew")

    def task_file(self, task: Task, until: float) -> Path:
        """What the worker of a task is told, from its study's folder."""
        path = TASKS / f"{task.name}.json"
        with written_whole(self.study(task.study) / path) as partial:
            write_json(partial, {"assignment": task.assignment, "until": until})
        return path

    def is_done(self, task: Task) -> bool:
        """Whether a task has left all that it has to; logits are the last."""
        return (self.study(task.study) / f"data/logits/{task.name}.npy").exists()

    def left_by(self, task: Task) -> Iterator[File]:
        """The files of a task, in the order in which they travel."""
        study = self.study(task.study)
        model = Path("models") / task.name
        if not self.is_done(task):
            for note in study.glob(".versus/resume/*/about.json"):
                if json.loads(note.read_text(encoding="utf-8")).get("training") == task.name:
                    for path in sorted(note.parent.rglob("*")):
                        if path.is_file() and not path.name.startswith("."):
                            yield results.file_of(study, task.label, STATE, path.relative_to(study).as_posix())
                    yield results.file_of(study, task.label, STATE, f"told/{task.name}.jsonl")
            return
        small = (f"reports/histories/{task.name}.csv", f"told/{task.name}.jsonl", *(f"{model}/{n}" for n in SMALL))
        logits = (f"data/logits/{task.name}.npy", f"data/logits/{task.name}.first.npy", f"{model}/val_logits.npy")
        weights = (path.relative_to(study).as_posix() for path in sorted((study / model).rglob("*.safetensors")))
        for kind, paths in (("notes", small), ("logits", logits), ("weights", weights)):
            yield from (results.file_of(study, task.label, kind, path) for path in paths if (study / path).is_file())

    def write_result(
        self, out: Path, part: int, outcomes: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]
    ) -> list[Path]:
        """Write what there is: notes of all trainings, then logits, weights, and states of what is not done."""
        order = ("notes", "logits", "weights", STATE)
        files = sorted(
            (file for task in self.tasks for file in self.left_by(task)), key=lambda file: order.index(file.kind)
        )
        return results.write(Manifest(self.name, machine, outcomes, files), self.studies(), out, part, self.key)

    def take(self, result: Result) -> None:
        """Put what an earlier result has where it was left, unless something is there."""
        for file in result.manifest.files:
            path = self.study(file.training.rsplit("/", 1)[0]) / file.path
            if not path.exists() and result.has(file):
                result.copy(file, path)


SMALL = ("config.json", "run.json")


def environment(folder: Path, study: Path, threads: int) -> dict[str, str]:
    """What a worker's environment adds: nothing is written outside `folder`."""
    caches = ("HF_HOME", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    return {
        **os.environ,
        **{name: str(folder / "caches" / name.lower()) for name in caches},
        "PYTHONPATH": str(folder / "package"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        "VERSUS_HOME": str(study),
    }
