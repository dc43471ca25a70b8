"""`versus pack`: the trainings that DVC would run, with all that they need, in one Python zip application.

DVC is asked what it would run, after the stages that all trainings share have run here. The pack holds the package,
each training's settings as resolved here, and the images as split left them; the labels of test images stay at home.
"""

import contextlib
import dataclasses
import hashlib
import json
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.anywhere import contents, results
from pipeline.anywhere.contents import FORMAT, KEY, LIST, Stored, Task
from pipeline.base import git
from pipeline.base.code import PACKAGE, described
from pipeline.base.errors import StageError
from pipeline.base.files import sha256, writable_file, write_json, written_whole
from pipeline.base.places import CARRIED, FIT, TEST, carried_name, find, replicate_folder, state_folder
from pipeline.base.places import study as study_name
from pipeline.base.quantities import enumerated, size
from pipeline.images import compressed, packed
from pipeline.launch import plan
from pipeline.params.read import load_params
from pipeline.params.trials import tuned_params
from pipeline.records.before import Before
from pipeline.training.task import resolve, taught_by, with_teachers

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # of every entry: the same trainings give the same bytes, the key apart
LABELS = ("labels.npy", "manifest.csv", "votes.npy")  # of test images, which stay at home


@dataclasses.dataclass(frozen=True)
class Made:
    """What a pack came to."""

    path: Path
    trainings: int
    images: int  # bytes of them in the pack

    def __str__(self) -> str:
        whole = self.path.stat().st_size
        trainings = "1 training" if self.trainings == 1 else f"{self.trainings} trainings"
        return f"{self.path}: {trainings}, {size(whole)}, {size(self.images)} of them images"


def pack(studies: Sequence[Path], only: Sequence[str], out: Path, part: int) -> Made:
    """Write a pack of what DVC would train in `studies`, of the models `only` if any are named.

    Raises StageError where there is nothing to train, or no such model.
    """
    refuse(studies, only)
    writable_file(out, "--out")
    tasks: list[Task] = []
    files: dict[str, tuple[Stored, Path]] = {}
    for study in studies:
        with contextlib.chdir(study):
            found = to_train(only)
            tasks += found
            if found:
                name = found[0].study
                files |= {f"{name}/{path}": (stored(name, path), path.resolve()) for path in needed(found)}
                files |= {f"{name}/{file.path}": (file, path) for file, path in carried(found)}
    if tasks and part < (least := results.least(contents.most_files(tasks))):
        raise StageError(f"pack: --part: {part} bytes hold little more than a result's own list; give {least} or more")
    if not tasks:
        raise StageError("pack: nothing to train: DVC has every result; change params.yaml, or name another study")
    listed = {
        "format": FORMAT,
        "commit": git.commit(),
        "code": code_digests(),
        "part": part,
        "tasks": [dataclasses.asdict(task) for task in tasks],
        "files": [dataclasses.asdict(file) for file, _ in files.values()],
    }
    text = json.dumps(listed, indent=1).encode()
    name = hashlib.sha256(text).hexdigest()
    key = known().get(name) or secrets.token_bytes(32)  # results of the same pack, made before, are to be taken
    remember(name, key, listed)
    return Made(out, len(tasks), write(out, text, key, files.values()))


def refuse(studies: Sequence[Path], only: Sequence[str]) -> None:
    """Refuse folders that are no studies, and models that none of the studies has."""
    models: dict[str, None] = {}
    for study in studies:
        if not (study / "params.yaml").is_file():
            raise StageError(f"pack: {study}: no study's folder; give one that has a params.yaml")
        with contextlib.chdir(study):
            models |= dict.fromkeys(load_params().models)
    if unknown := sorted(set(only) - set(models)):
        raise StageError(f"pack: no model {enumerated(unknown)}; choose from {', '.join(models)}")


def to_train(only: Sequence[str]) -> list[Task]:
    """The trainings of the study in the current folder that DVC would run, once what they share has run."""
    name = study_name()
    for wave in planned():
        if not git.dvc(Path(), "repro", *wave.shared):
            raise StageError(f"pack: a stage of {name} failed; what it said stands above")
        with plan.opened(Path(), "pack") as repo:
            training = [dataclasses.replace(group, targets=group.targets[:1]) for group in wave.groups]
            missing = plan.to_run(repo, training)
        if missing and (kind := missing[0].targets[0].partition("@")[0]) != "train":
            raise StageError(
                f"pack: {name} has {len(missing)} {kind}{'s' * (len(missing) > 1)} to run first, and a pack holds"
                " trainings alone; run `dvc repro choose`"
            )
    settings = tuned_params()
    seconds, commit = plan.expected(Path()), git.commit()
    found = []
    for group in missing:
        model, _, replicate = group.key.rpartition("-")
        if (only and model not in only) or Before.of(group.key).itself:  # a teacher's: `dvc repro` takes it as it is
            continue
        folder = replicate_folder(FIT, int(replicate))
        info = packed.read_info(folder)
        assignment = {
            "config": with_teachers(resolve(settings, model, int(replicate), info)),
            "normalise": settings.dataset.normalise,
            "source": settings.dataset.source or info["dataset"],
            "commit": commit,
        }
        images = len(packed.read(folder, "train_"))
        found.append(Task(name, group.key, json.loads(json.dumps(assignment)), images, seconds.get(model)))
    return found


def planned() -> list[plan.Wave]:
    """What DVC makes of the study in the current folder."""
    with plan.opened(Path(), "pack") as repo:
        return plan.plan(repo)


def needed(tasks: Sequence[Task]) -> Iterator[Path]:
    """The files of the current folder that trainings and their evaluations read."""
    for replicate in sorted({int(task.name.rpartition("-")[2]) for task in tasks}):
        for place, left in ((FIT, ()), (TEST, LABELS)):
            yield from (path for path in sorted(replicate_folder(place, replicate).iterdir()) if path.name not in left)
    for task in tasks:
        yield from (path for folder in taught_by(task.assignment["config"]) for path in sorted(folder.iterdir()))


def carried(tasks: Sequence[Task]) -> Iterator[tuple[Stored, Path]]:
    """The files of weights that trainings start from, and where they lie here."""
    for given in (task.assignment["config"]["network"]["pretrained"] for task in tasks):
        name = given["path"] if isinstance(given, Mapping) else given
        if isinstance(name, str) and (path := find(name)):
            digest = sha256(path)
            yield (
                Stored(tasks[0].study, f"{CARRIED}/{carried_name(name)}", f"files/{digest}", False, digest),
                path.resolve(),
            )


def stored(study: str, path: Path) -> Stored:
    """A file as a pack holds it: the same bytes once, however many studies have them."""
    digest = sha256(path)
    return Stored(study, path.as_posix(), f"files/{digest}", path.name.endswith("images.npy"), digest)


def write(out: Path, text: bytes, key: bytes, files: Any) -> int:
    """Write the application; returns the bytes that images take."""
    images = 0
    with written_whole(out) as partial:
        with partial.open("wb") as file:
            file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            add(archive, "__main__.py", (PACKAGE / "anywhere/start.py").read_bytes())
            add(archive, LIST, text)
            add(archive, KEY, key)
            for path in code():
                add(archive, f"package/{path.relative_to(PACKAGE.parent).as_posix()}", path.read_bytes())
            entries = set()
            for file, path in files:
                if file.entry in entries:
                    continue
                entries.add(file.entry)
                content = compressed.compress(np.load(path)) if file.pixels else path.read_bytes()
                images += len(content) * file.pixels
                add(archive, file.entry, content, zipfile.ZIP_STORED if file.pixels else zipfile.ZIP_DEFLATED)
        partial.chmod(partial.stat().st_mode | stat.S_IXUSR)
    return images


def code() -> list[Path]:
    """The files of the package, the benchmarks, and the schema, by which these know the defaults of settings."""
    above = PACKAGE.parent
    package = [path for kind in ("*.py", "*.c", "*.cpp") for path in PACKAGE.rglob(kind)]
    return sorted([*package, *(above / "benchmarks").glob("*.py"), above / "params.schema.json"])


def add(archive: zipfile.ZipFile, name: str, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> None:
    archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content, kind, 9 if kind == zipfile.ZIP_DEFLATED else None)


def code_digests() -> dict[str, str]:
    """What the code of train and of evaluate does, as digests."""
    return {stage: hashlib.sha256(described(stage).encode()).hexdigest() for stage in ("train", "evaluate")}


def place(name: str) -> Path:
    """Where this checkout keeps what it knows of a pack."""
    return state_folder() / "packs" / f"{name}.json"


def remember(name: str, key: bytes, listed: dict[str, Any]) -> None:
    """Keep a pack's key and list: results of other packs are refused."""
    with written_whole(place(name)) as partial:
        write_json(partial, {"key": key.hex(), "list": listed})
        partial.chmod(0o600)


def known() -> dict[str, bytes]:
    """The keys of the packs that were made in this checkout, by name."""
    found = {}
    for path in place("x").parent.glob("*.json"):
        found[path.stem] = bytes.fromhex(json.loads(path.read_text(encoding="utf-8"))["key"])
    return found
