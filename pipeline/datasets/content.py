"""What a folder or a file holds, as one SHA-256 that is the same wherever it lies.

It is computed once and kept in the checkout's `.versus/content`. As long as no name, size or time of the files has
changed, it is taken from there, so that 60,000 images are not read again at every `dvc repro`.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from pathlib import Path

from pipeline.base.files import sha256, write_json, written_whole
from pipeline.base.places import state_folder
from pipeline.datasets.tree import open_tree

SETTLED = 2.0  # seconds after which a further change shows in a file's times, whatever the file system counts in
LONG = 1 << 30  # bytes that take seconds to read

Entry = tuple[str, int, int, int]  # name, bytes, when its content changed last and when anything of it, in nanoseconds


def digest(path: Path) -> str:
    """SHA-256 over the names, sizes and contents of all files that a data set may read from `path`, or of one file.

    A file that cannot be read counts as such: whoever needs it says so.
    """
    path, started = path.resolve(), time.time()
    frame, files = _files(path)
    listing = [_entry(name, file) for name, file in files.items()]
    seen = hashlib.sha256(json.dumps([frame, listing]).encode()).hexdigest()
    kept = state_folder() / "content" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["seen"] == seen:
            return str(known["sha256"])
    if (size := sum(entry[1] for entry in listing)) >= LONG:
        print(f"source: reading {path} once, {len(files):,} files of {size / 1e9:.1f} GB", flush=True)
    found = hashlib.sha256(json.dumps(frame).encode())
    for name, file in files.items():
        found.update(json.dumps([name, _sha256(file)]).encode())
    if all(started - changed / 1e9 > SETTLED for _, _, _, changed in listing):
        with contextlib.suppress(OSError), written_whole(kept) as partial:  # of a checkout that cannot be written to
            write_json(partial, {"path": str(path), "seen": seen, "sha256": found.hexdigest()})
    return found.hexdigest()


def _files(path: Path) -> tuple[list[str], dict[str, str]]:
    """The name that a folder gives to its data set with its subfolders, and its files by name; of a file, itself."""
    if not path.is_dir():
        return [], {path.name: str(path)}
    with open_tree(path) as tree:
        return [tree.title, *sorted(tree.folders)], {name: f"{path}/{name}" for name in tree.paths}


def _entry(name: str, file: str) -> Entry:
    try:
        found = os.stat(file)
    except OSError:
        return name, 0, 0, 0
    return name, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sha256(file: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return "unreadable"  # a pipe or a device may have no end
        return sha256(Path(file))
    except OSError:
        return "unreadable"
