"""What another terminal sees of a study's launch, and how it ends it: `versus launch --status` and `--stop`."""

import os
import signal
import socket
import time
from collections import Counter

from pipeline.base.errors import StageError
from pipeline.launch import state
from pipeline.launch.job import LOG
from pipeline.launch.state import Job, Launched, Ledger


def status() -> None:
    """Print the jobs of the last launch and where their logs are, and what it does where jobs do not tell."""
    ledger = Ledger(state.place())
    alive, last, doing = ledger.is_held(), ledger.read(), ledger.doing
    if last.jobs:
        _show(last, alive)
    if doing:
        print(f"launch: {doing}" if alive else f"launch: it ended while {doing}; `versus launch` goes on from there")
    elif not last.jobs:
        known = "there was nothing to train" if last.on else "nothing was launched here"
        print(f"launch: {'starting' if alive else known}")


def _show(last: Launched, alive: bool) -> None:
    """Print a line for each job, and the sum; `alive` says whether their launcher is."""
    for job in last.jobs:
        if job.is_open and not alive:
            job.state = "lost"
        elif job.state == "running" and (started := job.started()):
            job.seconds = time.time() - started
    width = max(len(job.name) for job in last.jobs)
    for job in last.jobs:
        print(_line(job, width))
    counts = Counter(job.state for job in last.jobs)
    says = ", ".join(f"{count} {state}" for state, count in counts.items())
    killed = "; its launcher was killed: `versus launch` ends what runs and goes on"
    print(f"launch: on {last.on}: {says}{killed if 'lost' in counts else ''}")


def _line(job: Job, width: int) -> str:
    tries = f"attempt {job.attempts}" if job.attempts > 1 else ""
    words = f"{job.name:{width}}  {job.state:8} {job.seconds:6.0f} s  {tries:10} {job.reason[:60]}".rstrip()
    return f"{words}  {job.folder}/{LOG}" if job.state != "queued" else words


def stop() -> None:
    """End the launch of this study that runs in another terminal; returns when nothing of it runs."""
    ledger = Ledger(state.place())
    if not ledger.is_held():
        raise StageError("launch: no launch of this study is running")
    pid, host = ledger.launcher()
    if host != socket.gethostname():
        raise StageError(f"launch: the launch of this study runs on {host}; stop it there")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise StageError(f"launch: the launch of this study is another user's, process {pid}; ask them") from None
    while ledger.is_held():
        time.sleep(0.2)
    print("launch: stopped")
