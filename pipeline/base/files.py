"""Files that appear whole or not at all, and locks that the whole checkout knows."""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import StageError, shown
from pipeline.base.places import state_folder


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
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; flush and rename it to `path` if the block succeeds, remove it if not.

    What a killed process left under such a name is removed first. A folder is replaced by a folder alone: a file in its
    place raises StageError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{_escape(path.name)}.*.part*"):  # and SQLite's journal of it
        if not running(stale.name.split(".")[-2]):
            remove(stale)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        _flush(partial)
        if path.is_dir() and not (partial.is_dir() or path.is_symlink()):
            raise StageError(f"{shown(str(path))}: a folder, and a file is to be written; give a file's name")
        if path.is_dir():  # a folder or a link to one cannot be replaced by renaming
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def writable(folder: Path, what: str) -> None:
    """Make a folder; raises StageError, which `what` begins, where nothing can be written into it."""
    import tempfile  # late, as `versus --help` needs none of what it imports

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise StageError(f"{what}: {folder}: cannot be written into ({reason}); give a folder, old or new") from None


def writable_file(path: Path, what: str) -> None:
    """Raise StageError, which `what` begins, where a path that a user gave is no place for a file to appear at.

    A folder there would go with all that is in it, a device with what it is to all other programs.
    """
    name, whole = shown(str(path)), path.absolute()
    if path.is_dir():
        raise StageError(f"{what}: {name} is a folder; give a file's name, such as {shown(str(path / 'FILE'))}")
    devices = whole.is_relative_to("/proc") or (whole.is_relative_to("/dev") and not whole.is_relative_to("/dev/shm"))
    if devices or (path.exists() and not path.is_file()):
        raise StageError(f"{what}: {name} is neither a file nor a free name; give a file's name")
    writable(path.parent, what)


def empty(folder: Path, what: str) -> None:
    """Make a folder; raises StageError, which `what` begins, where it holds anything or cannot be written into."""
    writable(folder, what)
    if any(folder.iterdir()):
        raise StageError(f"{what}: {shown(str(folder))} is not empty, and old would stand among new; give a new folder")


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


def linked(source: Path, target: Path) -> None:
    """Make the folder `target` of the files in `source`: hard links, which take no room, or copies where none can be.

    What is written into one of them later is in the other too, so that only what nobody changes is for linking.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        try:
            os.link(path, target / path.name)
        except OSError:  # a disk without hard links, or an inode that has as many as it may
            shutil.copy2(path, target / path.name)


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits, as sha256sum prints it."""
    import hashlib  # late, as `versus --help` needs none of what it imports

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
