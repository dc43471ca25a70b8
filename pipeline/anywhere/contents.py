"""What a pack holds, and the folder that it is laid out in: a study's folder is there as it is at home."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.anywhere import results
from pipeline.anywhere.results import File, Manifest, Result
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import CARRIED
from pipeline.images import compressed
from pipeline.training import resume

LIST, KEY = "pack.json", "pack.key"
NOTED = "told.jsonl"  # in a state's folder: what its training told of the epochs
FORMAT = 1
NOTES, LOGITS, WEIGHTS, STATE = ORDER = ("notes", "logits", "weights", results.STATE)  # kinds of files, as they travel
SMALL = ("config.json", "run.json")
FILES = 10  # of a training at most, weights of its epochs apart
KEPT = ("models", "data/logits", "reports", ".versus/resume")  # where a study's results and states lie
CACHES = (  # where libraries write
    *("CUDA_CACHE_PATH", "HF_HOME", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME", "TRITON_CACHE_DIR"),
    "XDG_CACHE_HOME",
)
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
        return int(self.protocol["epochs"])

    @property
    def devices(self) -> int:
        """GPUs, or processes, that it takes."""
        return int(self.protocol["devices"])

    @property
    def protocol(self) -> Mapping[str, Any]:
        return dict(self.assignment["config"]["train"])


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
        written: dict[str, Path] = {}
        with zipfile.ZipFile(self.pack) as archive:
            for file in self.files:
                path = self.study(file.study) / file.path
                if not path.exists():
                    with written_whole(path) as partial:
                        if file.entry in written:
                            shutil.copyfile(written[file.entry], partial)
                        else:
                            self.unpack(file, archive.read(file.entry), partial)
                written[file.entry] = path

    def unpack(self, file: Stored, content: bytes, path: Path) -> None:
        """Write a file; raises StageError where its content is damaged."""
        if file.pixels:
            with path.open("wb") as written:
                np.save(written, compressed.decompress(content, f"{self.pack.name}: {file.path}"))
        elif hashlib.sha256(content).hexdigest() == file.sha256:
            path.write_bytes(content)
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
        return self.done_by(task) if self.is_done(task) else self.begun_by(task)

    def done_by(self, task: Task) -> Iterator[File]:
        """What a training that has ended left."""
        study, model, name = self.study(task.study), Path("models") / task.name, task.name
        notes = (f"reports/histories/{name}.csv", told(name), *(f"{model}/{each}" for each in SMALL))
        logits = (f"data/logits/{name}.npy", f"data/logits/{name}.first.npy", f"{model}/val_logits.npy")
        weights = (path.relative_to(study).as_posix() for path in sorted((study / model).rglob("*.safetensors")))
        for kind, paths in ((NOTES, notes), (LOGITS, logits), (WEIGHTS, weights)):
            yield from (results.file_of(study, task.label, kind, path) for path in paths if (study / path).is_file())

    def begun_by(self, task: Task) -> Iterator[File]:
        """The states that a training goes on from."""
        study = self.study(task.study)
        for path in (path for state in self.states(task) for path in sorted(state.rglob("*"))):
            if path.is_file() and not path.name.startswith("."):
                yield results.file_of(study, task.label, STATE, path.relative_to(study).as_posix())

    def states(self, task: Task) -> list[Path]:
        """The folders of states of a task, one for each kind of device that it began on."""
        notes = sorted(self.study(task.study).glob(".versus/resume/*/about.json"))
        found = [note.parent for note in notes if resume.about(note.parent).get("training") == task.name]
        return [state for state in found if (state / "state.pt").exists()]

    def size(self) -> int:
        """Bytes of what a result would have now, about."""
        kept = (study.glob(f"{place}/**/*") for study in self.studies().values() for place in KEPT)
        total = 0
        for path in itertools.chain.from_iterable(kept):
            with contextlib.suppress(OSError):  # a worker may have removed it meanwhile
                total += path.stat().st_size * path.is_file()
        return total

    def write_result(
        self, out: Path, part: int, outcomes: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]
    ) -> list[Path]:
        """Write what there is: notes of all trainings, then logits, weights, and states of what is not done.

        Raises StageError as results.standing and refuse_loss do.
        """
        self.refuse_loss(results.standing(out, self.keys()))
        files = sorted(
            (file for task in self.tasks for file in self.left_by(task)), key=lambda file: ORDER.index(file.kind)
        )
        trainings = [{**each, "epochs": self.epochs(task)} for each, task in zip(outcomes, self.tasks, strict=True)]
        return results.write(Manifest(self.name, machine, trainings, files), self.studies(), out, part, self.key)

    def take(self, earlier: Sequence[Result]) -> None:
        """Put of each training what results have that is furthest, where it was left; what is here and as far stays."""
        for task in self.tasks:
            logits = f"data/logits/{task.name}.npy"  # which says that all is there: the last
            for result in earlier:
                for place in self.ahead(task, result.manifest):
                    named = (file for file in result.manifest.files if file.training == task.label)
                    left = [file for file in named if file.path.startswith(place)]
                    if all(map(result.has, left)):
                        for file in sorted(left, key=lambda file: file.path == logits):
                            result.copy(file, self.study(task.study) / file.path)

    def refuse_loss(self, standing: Mapping[Path, Manifest]) -> None:
        """Raise StageError where one of the parts that a result would replace has more than there is here."""
        for path, manifest in standing.items():
            if lacking := self.lacking([manifest]):
                raise StageError(
                    f"--out: {path} would be replaced, and has more of {lacking[0]} than there is here; give all parts"
                    " of that result to --from, or name another --out"
                )

    def lacking(self, manifests: Sequence[Manifest]) -> list[str]:
        """The trainings of which results have more than there is here."""
        return [task.label for task in self.tasks if any(self.ahead(task, manifest) for manifest in manifests)]

    def epochs(self, task: Task) -> dict[str, int]:
        """How many epochs of a task are here, by where they are: a state's folder each, or "" once it is done."""
        if self.is_done(task):
            return {"": task.epochs}
        study = self.study(task.study)
        return {state.relative_to(study).as_posix(): len(epochs_told(state / NOTED)) for state in self.states(task)}

    def ahead(self, task: Task, manifest: Manifest) -> list[str]:
        """Where a result has more epochs of a task than there are here; nowhere if it is done here."""
        here = self.epochs(task)
        there: Mapping[str, int] = next(
            (each["epochs"] for each in manifest.trainings if each["name"] == task.label), {}
        )
        return [place for place, epochs in there.items() if "" not in here and epochs > here.get(place, -1)]


def most_files(tasks: Sequence[Task]) -> int:
    """How many files the result of tasks has at most."""
    return sum(FILES + (task.epochs if task.protocol["keep_epochs"] else 0) for task in tasks)


def told(name: str) -> str:
    """Where the notes lie that a training last told of its epochs, from its study's folder."""
    return f"told/{name}.jsonl"


def epochs_told(path: Path) -> dict[int, float]:
    """The epochs that a training told of, and when each ended, in seconds since 1970; a line that was cut is none."""
    found: dict[int, float] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            found[note["step"]] = note["time"]
    return {step: at for step, at in found.items() if step > 0}


def environment(folder: Path, study: Path, threads: int) -> dict[str, str]:
    """What a process of a pack gets: nothing is written outside `folder`, and VERSUS_HOME is the study."""
    caches = {name: folder / "caches" / name.lower() for name in CACHES}
    for cache in caches.values():
        cache.mkdir(parents=True, exist_ok=True)
    path = [str(folder / "package"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **{name: str(cache) for name, cache in caches.items()},
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        "VERSUS_HOME": str(study),
        "VERSUS_CARRIED": str(study / CARRIED),
    }
