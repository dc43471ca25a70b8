"""Jobs on this machine: so many at a time, one for each GPU where there are GPUs, its cores divided among them."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from pipeline.base.errors import StageError
from pipeline.base.places import cores
from pipeline.launch.executor import State, command, source

GRACE = 20  # seconds between asking a job to end and ending it
MARK = "VERSUS_JOB"  # the variable that a job's processes have, however they were started: its folder


@dataclasses.dataclass(frozen=True)
class Slot:
    """What one job at a time has: GPUs by number, and cores."""

    gpus: tuple[str, ...]
    cores: tuple[int, ...]


def open(_: Path, settings: Mapping[str, Any]) -> "Local":  # noqa: A001
    return Local(slots(settings["workers"], settings["devices"], gpus(), cores()))


def gpus() -> list[str]:
    """The GPUs that this process may use, by the numbers or names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def slots(workers: int | None, devices: int, gpus: Sequence[str], cores: Sequence[int]) -> list[Slot]:
    """GPUs and cores divided among `workers`, which None leaves to what there is.

    Those are as many as have `devices` GPUs each; without GPUs one for every two cores, or two on two or three: small
    networks leave a second core half idle. More workers than GPUs share them in turn.
    """
    if gpus and len(gpus) < devices:
        raise StageError(f"launch: train.devices is {devices}, and this machine has {len(gpus)} GPUs; lower it")
    groups = [tuple(gpus[start : start + devices]) for start in range(0, len(gpus) - devices + 1, devices)]
    alone = max(len(cores) // 2, min(len(cores), 2))
    count = workers or (min(len(groups), len(cores)) if gpus else max(1, alone // devices))
    if count > len(cores):
        raise StageError(f"launch: {count} workers on {len(cores)} cores; ask for --workers {len(cores)} or fewer")
    share = len(cores) // count
    return [
        Slot(groups[index % len(groups)] if gpus else (), tuple(cores[index * share : (index + 1) * share]))
        for index in range(count)
    ]


class Local:
    """Starts a job whenever a slot is free, which `states` looks after."""

    poll = 0.5

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free = list(reversed(slots))
        self._waiting: deque[Path] = deque()
        self._running: dict[Path, tuple[subprocess.Popen[bytes], Slot]] = {}

    def submit(self, jobs: Sequence[Path]) -> None:
        self._waiting.extend(jobs)
        self.states([])

    def states(self, jobs: Sequence[Path]) -> dict[Path, State]:
        for job, (process, slot) in list(self._running.items()):
            if process.poll() is not None:
                _end(job)  # what a killed job left running would share the next one's cores
                self._free.append(slot)
                del self._running[job]
        while self._waiting and self._free:
            slot = self._free.pop()
            job = self._waiting.popleft()
            self._running[job] = (_start(job, slot), slot)
        return {
            job: "queued" if job in self._waiting else "running" if job in self._running else "gone" for job in jobs
        }

    def cancel(self, jobs: Sequence[Path]) -> None:
        self._waiting = deque(job for job in self._waiting if job not in jobs)
        for job in jobs:
            _signal(job, signal.SIGTERM)
        for job in jobs:
            _end(job)
        self.states([])


def _start(job: Path, slot: Slot) -> subprocess.Popen[bytes]:
    """Start a job in a session of its own: Ctrl-C reaches the launcher alone."""
    environment = {**os.environ, "PYTHONPATH": str(source()), MARK: str(job)}
    if slot.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    environment.setdefault("OMP_NUM_THREADS", str(len(slot.cores)))
    process = subprocess.Popen(
        command(job), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, slot.cores)
    return process


def _processes(job: Path) -> list[psutil.Process]:
    """The processes of a job that run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(job) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _signal(job: Path, number: signal.Signals) -> None:
    for process in _processes(job):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _end(job: Path) -> None:
    """Ask a job's processes to end, and end them if they do not."""
    due = time.monotonic() + GRACE
    _signal(job, signal.SIGTERM)
    while _processes(job) and time.monotonic() < due:
        time.sleep(0.1)
    while _processes(job):
        _signal(job, signal.SIGKILL)
        time.sleep(0.1)
