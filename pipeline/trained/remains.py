"""What killed and failed stages and removed models left in this checkout; `versus prune` lists and removes it."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.files import remove, running
from pipeline.base.places import main_checkout, state_folder
from pipeline.params.read import load_params
from pipeline.trained.leftovers import leftovers
from pipeline.training import resume

DAY = 86_400
MAKING = 5.0  # seconds that DVC takes at most between an entry's folder and the entry
WRITTEN = ("data", "models", "reports")  # folders of a study that its stages write into


@dataclass(frozen=True)
class Remains:
    what: str
    bytes: int
    age: float  # seconds since it was last written
    path: Path | None = None
    run: str = ""  # an MLflow run's id

    def remove(self) -> bool:
        """Remove the file or folder; False of the state of a training that a process opened just now, which stays."""
        if self.path is not None and self.path.parent == resume.folders():
            resume.discard(self.path.name)
            return not self.path.exists()
        if self.path is not None:
            remove(self.path)
        return True


def states() -> list[Remains]:
    """States of trainings that no process has open."""
    found = []
    for folder in sorted(resume.folders().glob("*")):
        if resume.is_open(folder.name):
            continue
        about = resume.about(folder)
        named = f"{about.get('training', folder.name)} of {about.get('study', 'an unknown study')}"
        found.append(Remains(f"state of the training {named}", resume.size(folder), age(folder), folder))
    return found


def runs_of(states: list[Remains]) -> set[str]:
    """The ids of the MLflow runs that trainings go on in."""
    return {str(resume.about(state.path).get("run", "")) for state in states if state.path is not None}


def partial_files() -> list[Remains]:
    """Files and folders that a process was writing when it was killed, in every study of this checkout."""
    root = main_checkout()
    places = [state_folder(), *(study / name for study in studies() for name in WRITTEN)]
    found = [path for place in places for path in place.rglob(".*.part")]
    return [
        Remains(f"half-written {path.relative_to(root)}", resume.size(path), age(path), path)
        for path in found
        if not running(path.name.split(".")[-2])
    ]


def studies() -> list[Path]:
    """The folders of this checkout's studies."""
    return [main_checkout(), *main_checkout().glob("studies/*")]


def unfinished_entries() -> list[Remains]:
    """Folders of DVC's run-cache without an entry, unless they were made just now, in every study of this checkout."""
    root = main_checkout()
    folders = [path for study in studies() for path in study.glob(".dvc/cache/runs/*/*")]
    found = [
        Remains(f"unfinished {path.relative_to(root)}", 0, age(path), path)
        for path in folders
        if path.is_dir() and not any(path.iterdir())
    ]
    return [left for left in found if left.age > MAKING]


def unnamed_results() -> list[Remains]:
    """Weights and results of trainings that params.yaml does not name, of the study in the current folder."""
    try:
        found = [path for each in leftovers(load_params()).values() for path in each]
        paths = [path for path in found if not path.is_dir() or left_by_train(path)]
    except StageError as error:
        if Path("params.yaml").exists():
            print(f"versus: {error}; results are not looked through", file=sys.stderr)
        return []
    known = in_git(paths)
    return [
        Remains(f"{path}, not in params.yaml{', in git' * (path in known)}", resume.size(path), age(path), path)
        for path in paths
    ]


def in_git(paths: list[Path]) -> set[Path]:
    """Those that git tracks, or anything in them; none where there is no git."""
    try:
        command = ["git", "ls-files", "-z", "--", *map(str, paths)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout if paths else ""
    except (OSError, subprocess.CalledProcessError):
        return set()
    tracked = [Path(name) for name in listed.split("\0") if name]
    return {above for name in tracked for above in (name, *name.parents)} & set(paths)


def left_by_train(folder: Path) -> bool:
    """Whether a folder is a training's, by what it says of itself: others name theirs models/resnet-50, too."""
    if (folder / "run.json").is_file():
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"network", "replicate"} <= set(config)


def age(path: Path) -> float:
    """Seconds since anything in a folder was written."""
    return time.time() - max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
