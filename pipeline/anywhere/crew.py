"""Workers on one machine: so many trainings at a time as get further together than fewer would.

Without a GPU, that is one for every two cores. With one, a worker more is started while memory is free for it, and kept
if images per second of all workers rose by it; measured over whole epochs. Several GPUs share the workers in turn.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.anywhere.contents import Contents, Task, environment
from pipeline.base.errors import PASSING
from pipeline.base.places import cores

POLL = 0.5  # seconds between two looks
TELL = 30  # seconds between two lines of progress
GAIN = 1.05  # of images per second, for which a worker more is kept
GRACE = 5  # seconds between asking a worker to end and ending it
ROOM = 1.3  # of the memory that a worker takes on average, free for one more


@dataclasses.dataclass
class Worker:
    """A task that runs."""

    task: Task
    gpu: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float
    base: int  # epochs that an earlier call had done


@dataclasses.dataclass
class Crew:
    """Runs the tasks of a pack until time is up."""

    contents: Contents
    until: float  # seconds since 1970
    given_workers: int | None
    given_threads: int | None
    running: list[Worker] = dataclasses.field(default_factory=list)
    states: dict[str, str] = dataclasses.field(default_factory=dict)  # label -> done, begun, failed
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        self.gpus = torch.cuda.device_count()
        everything = len(cores())
        self.most = self.given_workers or (everything if self.gpus else max(1, min(2, everything), everything // 2))
        self.workers = self.given_workers or (self.gpus or self.most)
        self.settled = bool(self.given_workers) or not self.gpus
        self.threads = self.given_threads or max(1, everything // self.most)
        self.before = 0.0  # images per second with a worker less
        self.changed = time.monotonic()
        self.told = 0.0

    def run(self) -> None:
        """Run what is not done, longest first; returns when nothing is left, or time is up."""
        waiting = sorted(
            (task for task in self.contents.tasks if not self.contents.is_done(task)), key=work, reverse=True
        )
        for task in self.contents.tasks:
            if task not in waiting:
                self.states[task.label] = "done"
        print(f"{len(waiting)} of {len(self.contents.tasks)} trainings to run, on {self.place()}", flush=True)
        while waiting or self.running:
            self.collect()
            if time.time() >= self.until:
                return
            self.adapt()
            while waiting and len(self.running) < self.workers:
                self.start(waiting.pop(0))
            if time.monotonic() - self.told > TELL:
                self.tell(waiting)
            time.sleep(POLL)

    def place(self) -> str:
        import torch

        if self.gpus:
            return f"{self.gpus} x {torch.cuda.get_device_name(0)}, one training each and more as that pays"
        return f"the CPU, {self.workers} at a time with {self.threads} threads each"

    def start(self, task: Task) -> None:
        study = self.contents.study(task.study)
        (study / "logs").mkdir(exist_ok=True)
        log = (study / "logs" / f"{task.name}.txt").open("ab")
        gpu = self.free_gpu()
        given = environment(self.contents.folder, study, self.threads)
        if self.gpus:
            given["CUDA_VISIBLE_DEVICES"] = visible(gpu)
        command = [sys.executable, "-m", "pipeline.anywhere.worker", str(self.contents.task_file(task, self.until))]
        process = subprocess.Popen(command, cwd=study, env=given, stdout=log, stderr=log, start_new_session=True)
        self.running.append(Worker(task, gpu, process, log, time.time(), len(epochs(study, task.name))))
        print(f"{task.label} began", flush=True)

    def free_gpu(self) -> int:
        """The GPU with the fewest workers."""
        return min(range(max(self.gpus, 1)), key=lambda gpu: sum(worker.gpu == gpu for worker in self.running))

    def collect(self) -> None:
        """Note the workers that have ended."""
        for worker in [worker for worker in self.running if worker.process.poll() is not None]:
            self.running.remove(worker)
            worker.log.close()
            label, status = worker.task.label, worker.process.returncode
            log = self.contents.study(worker.task.study) / "logs" / f"{worker.task.name}.txt"
            self.states[label] = "done" if status == 0 else "begun" if status == PASSING else "failed"
            if status not in (0, PASSING):
                self.reasons[label] = reason(log, status)
            seconds = time.time() - worker.started
            print(
                f"{label} {self.states[label]} after {seconds:.0f} s {self.reasons.get(label, '')}".rstrip(), flush=True
            )
            self.changed, self.before = time.monotonic(), 0.0

    def adapt(self) -> None:
        """On a GPU, add a worker where that may pay, and stop adding when the last one did not."""
        if self.settled or len(self.running) < self.workers or any(self.fresh(worker) < 2 for worker in self.running):
            return
        rate = sum(self.rate(worker) for worker in self.running)
        if self.before and rate < GAIN * self.before:
            self.settled, self.workers = True, max(self.gpus, self.workers - 1)
            print(f"{self.workers} at a time: another one did not pay ({rate:,.0f} images/s)", flush=True)
        elif self.workers >= self.most or not self.has_memory():
            self.settled = True
        else:
            self.before, self.workers, self.changed = rate, self.workers + 1, time.monotonic()

    def fresh(self, worker: Worker) -> int:
        """Epochs that a worker has finished since the number of workers changed."""
        began = time.time() - (time.monotonic() - self.changed)
        return sum(at > began for at in epochs(self.contents.study(worker.task.study), worker.task.name))

    def rate(self, worker: Worker) -> float:
        """Images per second of a worker's last epoch."""
        times = epochs(self.contents.study(worker.task.study), worker.task.name)
        return worker.task.images / max(1e-6, times[-1] - times[-2])

    def has_memory(self) -> bool:
        import torch

        free, total = torch.cuda.mem_get_info(0)
        return free > ROOM * (total - free) / max(1, sum(worker.gpu == 0 for worker in self.running))

    def tell(self, waiting: Sequence[Task]) -> None:
        """A line of progress, with the time that is left by the epochs so far."""
        self.told = time.monotonic()
        done = sum(state == "done" for state in self.states.values())
        left = self.left(waiting)
        about = "" if left is None else f", about {math.ceil(left / 60)} min left"
        limit = "" if self.until == math.inf else f", time is up in {max(0, self.until - time.time()) / 60:.0f} min"
        print(f"{done} of {len(self.contents.tasks)} done, {len(self.running)} running{about}{limit}", flush=True)

    def left(self, waiting: Sequence[Task]) -> float | None:
        """Seconds until all is done, if every image takes as long as those so far; None before there are any."""
        seconds = images = ahead = 0.0
        for worker in self.running:
            done = len(epochs(self.contents.study(worker.task.study), worker.task.name))
            if done > worker.base:
                seconds += time.time() - worker.started
                images += (done - worker.base) * worker.task.images
            ahead += (worker.task.epochs - done) * worker.task.images
        ahead += sum(task.epochs * task.images for task in waiting)
        return ahead * seconds / images / max(1, len(self.running)) if images else None

    def end(self) -> None:
        """End the workers that still run; their states are those of the last epoch that was kept."""
        for number, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            for worker in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, number)
            stop = time.monotonic() + wait
            while any(worker.process.poll() is None for worker in self.running) and time.monotonic() < stop:
                time.sleep(0.1)
        for worker in self.running:
            worker.log.close()
            self.states[worker.task.label] = "begun"
        self.running.clear()

    def outcomes(self) -> list[dict[str, Any]]:
        labels = [task.label for task in self.contents.tasks]
        return [
            {"name": each, "state": self.states.get(each, "waiting"), "reason": self.reasons.get(each, "")}
            for each in labels
        ]

    def failed(self) -> list[str]:
        return [label for label, state in self.states.items() if state == "failed"]

    def summary(self) -> str:
        counts = {
            state: sum(each["state"] == state for each in self.outcomes())
            for state in ("done", "begun", "waiting", "failed")
        }
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def work(task: Task) -> float:
    """How much there is to do, for the order: seconds at home, else images."""
    return task.seconds if task.seconds is not None else 1e6 + task.epochs * task.images


def epochs(study: Path, name: str) -> list[float]:
    """When each epoch ended that a training told of."""
    with contextlib.suppress(OSError, ValueError):
        lines = (study / f"told/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [note["time"] for note in map(json.loads, lines) if note["step"] > 0]
    return []


def visible(gpu: int) -> str:
    """The GPU's name for CUDA, which may have been told of some alone."""
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names[gpu] if names else str(gpu)


def reason(log: Path, status: int) -> str:
    """What a worker that failed said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.startswith("versus: ")), lines[-1] if lines else "")
    return said.removeprefix("versus: ") or f"exit status {status}"
