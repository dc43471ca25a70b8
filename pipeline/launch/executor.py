"""What a place that runs jobs has to offer; another one is a file like local.py, named in EXECUTORS.

A job is a folder; running it means running `command(folder)` to its end, wherever that is, with the folder in reach.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

EXECUTORS = ("local", "slurm")  # each a module beside this one, with an `open(folder, settings)`

State = Literal["queued", "running", "gone"]


class Executor(Protocol):
    poll: float  # seconds between two looks at the states, at most

    def submit(self, jobs: Sequence[Path]) -> None:
        """Have the jobs run, in this order where not all fit."""
        ...

    def states(self, jobs: Sequence[Path]) -> dict[Path, State]:
        """`gone` says only that nothing of a job runs any more; what came of it is in its folder."""
        ...

    def cancel(self, jobs: Sequence[Path]) -> None:
        """End jobs, those of a launcher that was killed too; returns when nothing of them runs."""
        ...


def command(job: Path) -> list[str]:
    return [sys.executable, "-m", "pipeline.launch.job", str(job)]


def source() -> Path:
    """The folder that `pipeline` is imported from."""
    return Path(__file__).resolve().parents[2]


def with_source() -> str:
    """PYTHONPATH for a process of Versus: the folder that `pipeline` is imported from, before the user's own."""
    return os.pathsep.join([str(source()), *filter(None, [os.environ.get("PYTHONPATH")])])


def forget_source() -> None:
    """Leave the user's own PYTHONPATH to what a process that was begun so begins: that has code of its own."""
    own = os.environ.pop("PYTHONPATH", "").removeprefix(str(source())).removeprefix(os.pathsep)
    if own:
        os.environ["PYTHONPATH"] = own


def named(name: str, folder: Path, settings: Mapping[str, Any]) -> Executor:
    """The executor `name`, which may keep files in `folder`; `settings` are those of `launch` in params.yaml."""
    return importlib.import_module(f"pipeline.launch.{name}").open(folder, settings)
