"""What killed and failed stages and removed models left behind, listed and removed on request: `versus prune --yes`.

That is: states of trainings that nobody went on with, MLflow runs that ended as KILLED or FAILED, and files that a
killed process was writing. Entries of DVC's run-cache that DVC was killed in the middle of go whatever their age: DVC
stops at such a one ever after. Weights and results of trainings that params.yaml of the study in the current folder
does not name go whatever their age too; those in git are marked. No run that FINISHED is touched, nor that of a
training that can still be gone on with, nor what a living process has open. For results that no commit names, DVC has
`dvc gc`.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import StageError, legible
from pipeline.base.files import remove, running
from pipeline.base.places import main_checkout, state_folder
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.trained.leftovers import leftovers as leftovers_leftovers
from pipeline.training import resume

DAY = 86_400
MAKING = 5.0  # seconds that DVC takes at most between an entry's folder and the entry
BACK = (
    "What params.yaml does not name comes back: what is in git by `git checkout`, what is not from DVC's cache, by"
    " `dvc repro` where params.yaml names it again."
)
WRITTEN = ("data", "models", "reports")  # folders of a study that its stages write into


@dataclass(frozen=True)
class Leftover:
    what: str
    bytes: int
    age: float  # seconds since it was last written
    path: Path | None = None
    run: str = ""  # an MLflow run's id


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.commands.prune", description="Remove what killed stages and removed models left."
    )
    parser.add_argument("--days", type=float, default=7, metavar="N", help="only what is older than N days (7)")
    parser.add_argument("--yes", action="store_true", help="remove it; without, it is listed only")
    given = parser.parse_args()
    prune(given.days, given.yes)


def prune(days: float = 7, yes: bool = False) -> None:
    """List what is older than `days`, and remove it if `yes`."""
    from pipeline.tracking import broken

    states = old(trainings(), days)
    resumable = {
        str(resume.about(left.path).get("run", "")) for left in trainings() if left not in states and left.path
    }
    now = time.time()
    runs = [
        Leftover(f"MLflow run {one.name} of {one.study}, {one.status}", one.bytes, now - one.ended, run=one.id)
        for one in broken.broken_runs()
        if one.id not in resumable
    ]
    unnamed = results()
    found = [*states, *old(runs, days), *old(partial_files(), days), *unfinished_entries(), *unnamed]
    if not found:
        print(f"prune: nothing that is older than {days:g} days")
        return
    for left in found:
        print(f"{size(left.bytes):>9}  {left.age / DAY:6.1f} days  {legible(left.what)}")
    total = size(sum(left.bytes for left in found))
    if unnamed:
        print(BACK)
    if not yes:
        print(f"prune: {len(found)} of these, {total}; `versus prune --days {days:g} --yes` removes them")
        return
    broken.delete_runs([left.run for left in found if left.run])
    for left in found:
        if left.path in {state.path for state in states} and left.path is not None:
            resume.discard(left.path.name)  # unless a process opened it just now
        elif left.path is not None:
            remove(left.path)
    print(f"prune: removed {len(found)}, {total} freed")


def old(leftovers: list[Leftover], days: float) -> list[Leftover]:
    return [left for left in leftovers if left.age >= days * DAY]


def trainings() -> list[Leftover]:
    """States of trainings that no process has open."""
    found = []
    for folder in sorted(resume.folders().glob("*")):
        if resume.is_open(folder.name):
            continue
        about = resume.about(folder)
        named = f"{about.get('training', folder.name)} of {about.get('study', 'an unknown study')}"
        found.append(Leftover(f"state of the training {named}", resume.size(folder), age(folder), folder))
    return found


def partial_files() -> list[Leftover]:
    """Files and folders that a process was writing when it was killed, in every study of this checkout."""
    root = main_checkout()
    places = [state_folder(), *(study / name for study in studies() for name in WRITTEN)]
    found = [path for place in places for path in place.rglob(".*.part")]
    return [
        Leftover(f"half-written {path.relative_to(root)}", resume.size(path), age(path), path)
        for path in found
        if not running(path.name.split(".")[-2])
    ]


def studies() -> list[Path]:
    """The folders of this checkout's studies."""
    return [main_checkout(), *main_checkout().glob("studies/*")]


def unfinished_entries() -> list[Leftover]:
    """Folders of DVC's run-cache without an entry, unless they were made just now, in every study of this checkout."""
    root = main_checkout()
    folders = [path for study in studies() for path in study.glob(".dvc/cache/runs/*/*")]
    found = [
        Leftover(f"unfinished {path.relative_to(root)}", 0, age(path), path)
        for path in folders
        if path.is_dir() and not any(path.iterdir())
    ]
    return [left for left in found if left.age > MAKING]


def results() -> list[Leftover]:
    """Weights and results of trainings that params.yaml does not name, of the study in the current folder."""
    try:
        paths = [path for each in leftovers_leftovers(load_params()).values() for path in each]
    except StageError as error:
        if Path("params.yaml").exists():
            print(f"versus: {error}; results are not looked through", file=sys.stderr)
        return []
    known = in_git(paths)
    return [
        Leftover(f"{path}, not in params.yaml{', in git' * (path in known)}", resume.size(path), age(path), path)
        for path in paths
    ]


def in_git(paths: list[Path]) -> set[Path]:
    """Those that git tracks; none where there is no git."""
    try:
        command = ["git", "ls-files", "-z", "--", *map(str, paths)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout if paths else ""
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {Path(name) for name in listed.split("\0") if name}


def age(path: Path) -> float:
    """Seconds since anything in a folder was written."""
    return time.time() - max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def size(count: float) -> str:
    """1234567 -> 1.2 MB"""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


if __name__ == "__main__":
    run(main, alone=False)
