"""What a launch leaves for others to read: its jobs, what it does where jobs do not tell, and which process it is.

Everything of a launch lies in `.dvc/tmp/versus/<study>` of the user's checkout: state.json, which --status reads, and
a folder for each job with its log.
"""

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import checkout, original, study
from pipeline.launch.job import STARTED

LAUNCHER = "pid"  # the launcher's, and its host
PHASE = "phase"  # what is being done where jobs do not tell; stays where that failed


@dataclasses.dataclass
class Job:
    name: str  # cnn-0, with the experiment's name before it where there is a grid
    folder: str
    state: str = "queued"  # queued, running, done, failed, stopped
    attempts: int = 1
    seconds: float = 0.0
    reason: str = ""

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def is_open(self) -> bool:
        return self.state in ("queued", "running")

    def started(self) -> float | None:
        """When it began, in seconds since 1970; None where it did not."""
        return self._begun().get("at")

    def host(self) -> str:
        """Where it began; empty where it did not."""
        return self._begun().get("host", "")

    def _begun(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / STARTED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


@dataclasses.dataclass(frozen=True)
class Launched:
    """What is known of the last launch."""

    on: str = ""  # empty where nothing was launched
    jobs: Sequence[Job] = ()


class Ledger:
    """The folder of a study's launch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, on: str, jobs: Sequence[Job]) -> None:
        with written_whole(self.folder / "state.json") as partial:
            write_json(partial, {"on": on, "jobs": [dataclasses.asdict(job) for job in jobs]})

    def read(self) -> Launched:
        try:
            content = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            return Launched(content["on"], [Job(**job) for job in content["jobs"]])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Launched()

    def begin(self, doing: str) -> None:
        """Say what is being done, here and to --status."""
        (self.folder / PHASE).write_text(doing, encoding="utf-8")
        print(f"launch: {doing}", flush=True)

    def end(self) -> None:
        """Say that what was begun is done."""
        (self.folder / PHASE).unlink()

    @property
    def doing(self) -> str:
        """What was begun and not ended; empty while jobs tell, and after all is done."""
        try:
            return (self.folder / PHASE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the study's only launch; raises StageError where there is another."""
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise StageError(
                "launch: this study is being launched already; `versus launch --status` shows it, --stop ends it"
            ) from None
        try:
            (self.folder / LAUNCHER).write_text(f"{os.getpid()} {socket.gethostname()}")
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Whether a launch of the study runs."""
        lock = FileLock(self.folder / "lock")
        if not self.folder.exists():
            return False
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        return False

    def launcher(self) -> tuple[int, str]:
        """The process that holds it, and its host."""
        try:
            pid, host = (self.folder / LAUNCHER).read_text(encoding="utf-8").split()
            return int(pid), host
        except (FileNotFoundError, ValueError):
            raise StageError("launch: the launch of this study is just starting; try again") from None


def place() -> Path:
    return root() / ".dvc/tmp/versus" / study()


def root() -> Path:
    here = checkout()
    if here is None or not (here / ".git").exists():
        raise StageError("launch: no git checkout here; jobs run in clones of one: git init, git add, git commit")
    return original(here)
