"""Where things lie: what stages leave, the study, the checkout, what outlives an experiment's copy."""

import os
import re
from pathlib import Path

from pipeline.base.errors import StageError, shown

RAW, FIT, TEST, REPORT = Path("data/raw"), Path("data/fit"), Path("data/test"), Path("reports/data.json")
TEACHERS, BEFORE = Path("data/teachers"), Path("data/before")  # trainings that teach; of each, those that it needs

PIPELINE = ("dvc.yaml", ".dvcignore")  # of the root: each study has copies, for DVC follows no link in a commit
DEFAULT = "digits"  # the study of the root
CARRIED = "carried"  # in the folder of a study that was packed: files that its settings name


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def study() -> str:
    """The study's name: its folder's below `studies/`; the root is the default study, digits.

    Raises StageError for a name that no model of MLflow's registry can have, or no address of one, and for the root's.
    """
    here = Path.cwd()
    if here.parent.name != "studies" or here == checkout():
        return DEFAULT
    if here.name == DEFAULT and "VERSUS_CARRIED" not in os.environ:  # a pack has every study below studies/
        raise StageError(
            f"studies/{DEFAULT}: {DEFAULT} is the default study's name, and both would share runs and champion;"
            " rename the folder"
        )
    if not here.name.isprintable() or re.search(r"[:?]|%[0-9A-Fa-f]{2}|^\.\.", here.name):
        raise StageError(
            f"studies/{shown(here.name)}: a study's name may have no : and no ?, no % before two digits of an address,"
            " no characters that cannot be printed and no two dots at its start; rename the folder"
        )
    return here.name


def checkout() -> Path | None:
    """The root of the git checkout that the stage runs in; without git, the nearest folder with a `.dvc`."""
    return _nearest(Path.cwd(), ".git") or _nearest(Path.cwd(), ".dvc")


def main_checkout() -> Path:
    """The root of the user's own checkout: where what outlives an experiment's copy lies."""
    return original(checkout() or Path.cwd())


def state_folder() -> Path:
    """`.versus` there: locks, and what killed trainings go on from."""
    return main_checkout() / ".versus"


def original(copy: Path) -> Path:
    """The user's own checkout, also where `copy` is one that DVC made for an experiment, below `.dvc/tmp/exps`.

    VERSUS_HOME names it where `copy` is a clone of a job of `versus launch`.
    """
    if os.environ.get("VERSUS_HOME"):
        return Path(os.environ["VERSUS_HOME"])
    parts = copy.parts
    for index in range(len(parts)):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            home = Path(*parts[:index])  # the root, or a study's folder
            return _nearest(home, ".git") or home
    return copy


def own_study() -> Path:
    """The study's folder in the user's own checkout; the current folder, where that is no copy."""
    here, copy = Path.cwd(), checkout()
    return original(copy) / here.relative_to(copy) if copy is not None else here


def verified(copy: Path) -> Path:
    """The checkout in which `versus verify` made the clone `copy`: whose data are read, whose results are not."""
    above = (place.parent.parent for place in copy.parents if place.parts[-2:] == (".versus", "verify"))
    return next(above, copy)


def replicate_folder(folder: Path, replicate: int) -> Path:
    """Where a replicate's images lie below data/fit or data/test."""
    return folder / str(replicate)


def find(path: str) -> Path | None:
    """A path of this machine, if it exists; a relative one starts at the study's folder, `~` is the user's.

    DVC runs queued experiments in a copy of the checkout, `versus verify` in a clone: these lack what git ignores, so
    that the same place of the user's own is looked at too. What `versus pack` brought along lies in VERSUS_CARRIED.
    Raises StageError for what may not be looked at.
    """
    place, copy = Path(os.path.expanduser(path)), checkout()  # pathlib's raises where there is no such user
    candidates = [place]
    if carried := os.environ.get("VERSUS_CARRIED"):
        candidates.insert(0, Path(carried) / carried_name(path))
    if copy is not None and not place.is_absolute():
        inside = Path.cwd().relative_to(copy) / place
        candidates += [original(copy) / inside, verified(copy) / inside]
    try:
        return next((candidate for candidate in candidates if candidate.exists()), None)
    except OSError as error:
        raise StageError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def carried_name(path: str) -> str:
    """The name in CARRIED of a file that settings name by `path`; it ends as the path does."""
    import hashlib  # late, as `versus --help` needs none of what it imports

    return f"{hashlib.sha256(path.encode()).hexdigest()[:16]}-{Path(path).name}"


def _nearest(folder: Path, marker: str) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / marker).exists()), None)
