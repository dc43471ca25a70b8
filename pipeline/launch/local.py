"""Jobs on this machine: so many at a time, one for each GPU where there are GPUs, its cores divided among them."""

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from pipeline.base.places import cores
from pipeline.launch.executor import State, command, with_source
from pipeline.launch.slots import Slot, gpus, slots

GRACE = 20  # seconds between asking a job to end and ending it
MARK = "VERSUS_JOB"  # the variable that a job's processes have, however they were started: its folder


def open(_: Path, settings: Mapping[str, Any]) -> "Local":  # noqa: A001
    return Local(slots(settings["workers"], settings["devices"], gpus(), cores()))


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
    environment = {**os.environ, "PYTHONPATH": with_source(), MARK: str(job)}
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
