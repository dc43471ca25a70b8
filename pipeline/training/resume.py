"""What a killed training goes on from: its state after an epoch, in `.versus/resume/` of the user's own checkout.

A folder is named by the training's fingerprint, so that only the same training goes on from it, in whatever study,
experiment or copy of the checkout; a lock of the same name keeps two trainers apart. The folder goes when evaluate has
read the result, which DVC has recorded by then: a kill at any moment in between loses nothing.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import PassingError, disk_full
from pipeline.base.files import locked, remove, write_json, written_whole
from pipeline.base.places import state_folder

FORMAT = 1  # of state.pt: a state of another format is not gone on from
LATE = "out of time"  # how the message of a training begins that stopped for it
SHARE = 0.02  # of the time goes into saving at most: a tiny network does not save after every epoch


class Resume:
    """Keeps a training's state in `folder`; a disk that is full costs the state and not the training."""

    def __init__(self, folder: Path, until: float = math.inf) -> None:
        """`until` is the time, in seconds since 1970, at which the training has to have stopped."""
        self.folder, self.path, self.until = folder, folder / "state.pt", until
        self._due = self._saved = time.monotonic()
        self._warned = False

    @property
    def run(self) -> str:
        """The MLflow run that the epochs so far were logged to; empty if there is none."""
        return str(about(self.folder).get("run", ""))

    def note(self, **entries: object) -> None:
        """Write down what this state is of."""
        self._whole("about.json", lambda path: write_json(path, entries))

    def load(self) -> dict[str, Any] | None:
        """The state, on the CPU; None where there is none that can be read."""
        import torch

        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["format"] == FORMAT:
                if "so_far" in state:  # not finished
                    done, epochs = len(state["so_far"]["history"]), about(self.folder).get("epochs", "?")
                    print(f"train: goes on after epoch {done} of {epochs}", flush=True)
                return state
        except Exception as error:  # torch raises whatever its unpickler and its zip reader raise
            reason = f" ({type(error).__name__})"
        else:
            reason = f" (format {state['format']})"
        print(f"versus: {self.path}: not readable{reason}; the training begins anew", file=sys.stderr)
        return None

    def save(self, state: Callable[[], dict[str, Any]], last: bool = False) -> None:
        """Replace the state, unless saving has taken more than its share of the time; always the `last` one.

        Raises PassingError, once the state is saved, where another epoch as long as this one would end too late.
        """
        import torch

        started = time.monotonic()
        late = not last and time.time() + 1.2 * (started - self._saved) > self.until
        self._saved = started
        if started < self._due and not last and not late:
            return
        self._whole("state.pt", lambda path: torch.save({"format": FORMAT, **state()}, path))
        now = time.monotonic()
        self._due = now + (now - started) / SHARE
        if late:
            raise PassingError(f"{LATE}; the training goes on from here when it is called again")

    def _whole(self, name: str, write: Callable[[Path], object]) -> None:
        try:
            with written_whole(self.folder / name) as partial:
                write(partial)
        except (OSError, RuntimeError) as error:
            if not isinstance(error, OSError) and not disk_full(error):
                raise
            if not self._warned:
                reason = " ".join(str(error).split())[:150]
                print(f"versus: {self.folder}: cannot be written ({reason}); training goes on unsaved", file=sys.stderr)
            self._warned = True


def folders() -> Path:
    return state_folder() / "resume"


def about(folder: Path) -> dict[str, Any]:
    """What was noted of a state; empty if nothing was."""
    try:
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def opened(key: str, until: float = math.inf) -> Iterator[Resume]:
    """The state of the training whose fingerprint is `key`, for this process alone; another waits for it to end."""
    with locked(name := key[:32], "another process trains the same; waiting for what it leaves"):
        yield Resume(folders() / name, until)


def discard(key: str) -> None:
    """Remove a training's state, unless a process has it open."""
    from filelock import FileLock, Timeout

    folder = folders() / key[:32]
    with contextlib.suppress(Timeout, FileNotFoundError), FileLock(_lock(key), blocking=False):
        remove(folder)


def is_open(key: str) -> bool:
    """Whether a process has a training's state open."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(_lock(key), blocking=False):
            return False
    except FileNotFoundError:
        return False
    except Timeout:
        return True


def _lock(key: str) -> Path:
    return state_folder() / "locks" / f"{key[:32]}.lock"


def size(folder: Path) -> int:
    """Bytes of a file, or of those below a folder; what vanishes meanwhile counts nothing."""
    total = folder.lstat().st_size if folder.is_file() else 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total
