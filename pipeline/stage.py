"""What every stage shares: one clear line for a fault, and outputs that appear whole or not at all."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

FULL = (  # as Python, torch's two writers, numpy and SQLite say it
    "No space left|File too large|Disk quota exceeded|iostream error|inline_container|requested and \\d+ written"
    "|disk is full"
)
PASSING = 75  # the exit status for what may pass, as sysexits.h has it


class StageError(Exception):
    """A fault that the user can mend; its text says what was found and what to do."""


class PassingError(StageError):
    """What may be over by itself: a store that is away, memory that others use. `versus launch` tries again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a stage as Ctrl-C does."""


def run(
    main: Callable[[], None],
    alone: bool = True,
    interrupted: str = "nothing was left half-written, `dvc repro` goes on from what was finished",
    again: str = "dvc repro",
) -> None:
    """Call a stage's `main`; a fault that the user can mend becomes one line on stderr and exit status 1.

    `alone`: where DVC was killed and a stage goes on without it, the same stage started anew waits for it, so that
    nobody's outputs change behind DVC's back. Ctrl-C and SIGTERM end with one line too, which says `interrupted`; where
    the disk is the fault, the line ends with the command to give `again`. With VERSUS_DEBUG=1 a fault shows where in
    the code it comes from.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that the locale lacks: as stderr does it
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with locked(_name(), "the same stage runs in another process; waiting") if alone else contextlib.nullcontext():
            main()
    except StageError as error:
        if os.environ.get("VERSUS_DEBUG"):
            raise
        print(f"versus: {legible(str(error))}", file=sys.stderr)
        sys.exit(PASSING if isinstance(error, PassingError) else 1)
    except KeyboardInterrupt as interrupt:
        word, status = ("terminated", 143) if isinstance(interrupt, Terminated) else ("interrupted", 130)
        print(f"versus: {word}; {interrupted}", file=sys.stderr)
        sys.exit(status)
    except Exception as error:
        if not (said := disk_fault(error)):
            raise
        print(f"versus: {said} and run `{again}` again", file=sys.stderr)
        sys.exit(1)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _name() -> str:
    """A stage's command line and folder, as a lock's name."""
    text = json.dumps([str(Path.cwd()), Path(sys.argv[0]).stem, *sys.argv[1:]])
    return f"stage-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def disk_fault(error: BaseException) -> str:
    """What to do where an error says that a disk is full or may not be written; empty where it says neither."""
    if disk_full(error):
        return (
            f"the disk is full ({' '.join(str(error).split())[:200]}); nothing was left half-written: free some space"
            " (`versus prune` lists what may go)"
        )
    if isinstance(error, OSError) and error.filename and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{error.filename}: {error.strerror}; give this user the right to it, or work in a copy of the checkout,"
    return ""


def disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a limit on files is exhausted; libraries wrap it in their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return re.search(FULL, str(error)) is not None


@contextlib.contextmanager
def locked(name: str, waiting: str) -> Iterator[None]:
    """Hold a lock that the whole checkout knows, experiments' copies included; say `waiting` if another has it.

    The operating system releases it with its process, however that ends.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(state_folder() / "locks" / f"{name}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"versus: {waiting}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; flush and rename it to `path` if the block succeeds, remove it if not.

    What a killed process left under such a name is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{_escape(path.name)}.*.part*"):  # and SQLite's journal of it
        if not running(stale.name.split(".")[-2]):
            remove(stale)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        _flush(partial)
        if path.is_dir():  # a folder or a link to one cannot be replaced by renaming
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def writable(folder: Path, what: str) -> None:
    """Make a folder; raises StageError, which `what` begins, where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise StageError(f"{what}: {folder}: cannot be written into ({reason}); give a folder, old or new") from None


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def running(pid: str) -> bool:
    """Whether a process of this id is there; of another user's too."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        pass
    return True


def _flush(path: Path) -> None:
    """Have the operating system write a file, or a folder and all that is in it, to the disk."""
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if each.is_file() or each == path:
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; no error if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shown(name: str, most: int = 160) -> str:
    """A name from elsewhere as a message may show it: on one line, what is not printable escaped, the middle cut."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def legible(text: str) -> str:
    """A message as a terminal may show it, its lines as they are: what is not printable escaped, nothing cut."""
    return "\n".join(shown(line, sys.maxsize) for line in text.split("\n"))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def commit() -> str:
    """The git commit of this package's code, with `-dirty` behind it where the code differs; empty outside git."""
    try:
        return _git("rev-parse", "HEAD").strip() + "-dirty" * bool(_git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return ""


def uncommitted() -> str:
    """How this package's code differs from its commit, new files included, as a patch; empty if it does not."""
    try:
        new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", ".").split("\0")[:-1]
        patches = [_git("diff", "HEAD", "--", ".")]
        patches += [_git("diff", "--no-index", "--", os.devnull, name, check=False) for name in new]
        return "".join(patches)
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str, check: bool = True) -> str:
    options = {"capture_output": True, "text": True, "errors": "replace", "check": check}
    return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, **options).stdout  # type: ignore[call-overload]


def study() -> str:
    """The study's name: its folder's below `studies/`; the root is the default study, digits.

    Raises StageError for a name that no model of MLflow's registry can have, or no address of one.
    """
    here = Path.cwd()
    if here.parent.name != "studies" or here == checkout():
        return "digits"
    if not here.name.isprintable() or re.search(r"[:?]|%[0-9A-Fa-f]{2}|^\.\.", here.name):
        raise StageError(
            f"studies/{shown(here.name)}: a study's name may have no : and no ?, no % before two digits of an address,"
            " no characters that cannot be printed and no two dots at its start; rename the folder"
        )
    return here.name


def checkout() -> Path | None:
    """The root of the git checkout that the stage runs in; without git, the nearest folder with a `.dvc`."""
    return _nearest(Path.cwd(), ".git") or _nearest(Path.cwd(), ".dvc")


def home() -> Path:
    """The root of the user's own checkout: where what outlives an experiment's copy lies."""
    return original(checkout() or Path.cwd())


def state_folder() -> Path:
    """`.versus` there: locks, and what killed trainings go on from."""
    return home() / ".versus"


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


def verified(copy: Path) -> Path:
    """The checkout in which `versus verify` made the clone `copy`: whose data are read, whose results are not."""
    above = (place.parent.parent for place in copy.parents if place.parts[-2:] == (".versus", "verify"))
    return next(above, copy)


def packed(folder: Path, replicate: int = 0) -> Path:
    """Where a replicate's images lie below data/fit or data/test: in cross-validation each fold has a folder."""
    fold = folder / str(replicate)
    return fold if fold.is_dir() else folder


def find(path: str) -> Path | None:
    """A path of this machine, if it exists; a relative one starts at the study's folder, `~` is the user's.

    DVC runs queued experiments in a copy of the checkout, `versus verify` in a clone: these lack what git ignores, so
    that the same place of the user's own is looked at too. Raises StageError for what may not be looked at.
    """
    place, copy = Path(os.path.expanduser(path)), checkout()  # pathlib's raises where there is no such user
    candidates = [place]
    if copy is not None and not place.is_absolute():
        inside = Path.cwd().relative_to(copy) / place
        candidates += [original(copy) / inside, verified(copy) / inside]
    try:
        return next((candidate for candidate in candidates if candidate.exists()), None)
    except OSError as error:
        raise StageError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _nearest(folder: Path, marker: str) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / marker).exists()), None)
