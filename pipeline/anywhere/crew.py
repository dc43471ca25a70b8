"""Workers on one machine: so many trainings at a time as get further together than fewer would.

Without a GPU, that is one for every two cores. With one, a worker more is started while memory is free for it, and kept
if images per second of all workers rose by it; measured over whole epochs. Several GPUs share the workers in turn. A
training on several devices has all GPUs for itself.
"""

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from typing import Any

import torch

from pipeline.anywhere.contents import Contents, Task, environment
from pipeline.anywhere.progress import Worker, left
from pipeline.base.errors import PASSING
from pipeline.base.places import cores
from pipeline.base.quantities import duration
from pipeline.training.resume import LATE

POLL = 0.5  # seconds between two looks
TELL = 30  # seconds between two lines of progress
GAIN = 1.05  # of images per second, for which a worker more is kept
GRACE = 5  # seconds between asking a worker to end and ending it
ENDING = 2 * GRACE  # seconds that ending all workers takes at most
WRITING = 4e7  # bytes of a result that are read, summed and written in a second
ROOM = 1.3  # of the memory that a worker takes on average, free for one more
COMMAND = (sys.executable, "-m", "pipeline.anywhere.worker")


@dataclasses.dataclass
class Crew:
    """Runs the tasks of a pack until time is up."""

    contents: Contents
    end_at: float  # seconds since 1970, at which the result has to be there
    given_workers: int | None
    given_threads: int | None
    running: list[Worker] = dataclasses.field(default_factory=list)
    states: dict[str, str] = dataclasses.field(default_factory=dict)  # label -> done, begun, failed
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        tasks = self.contents.tasks
        done = [task for task in tasks if self.contents.is_done(task)]
        self.states |= {task.label: "done" for task in done}
        self.states |= {task.label: "begun" for task in tasks if task not in done and self.contents.states(task)}
        self.waiting = sorted((task for task in tasks if task not in done), key=work, reverse=True)
        self.gpus = torch.cuda.device_count()
        everything = len(cores())
        self.most = self.given_workers or (everything if self.gpus else max(1, min(2, everything), everything // 2))
        self.workers = self.given_workers or self.gpus or self.most
        self.settled = bool(self.given_workers) or not self.gpus
        self.threads = self.given_threads or max(1, everything // self.most)
        self.before = 0.0  # images per second with a worker less
        self.changed = time.time()  # when a worker was added, or one ended
        self.told = 0.0
        self.deadline = self.end_at

    def run(self) -> None:
        """Run what is not done, longest first; returns when nothing is left, or time is up."""
        print(f"{len(self.waiting)} of {len(self.contents.tasks)} trainings to run, on {self.place()}", flush=True)
        while self.waiting or self.running:
            self.collect()
            if time.monotonic() - self.told > TELL:
                self.tell()
            if time.time() >= self.deadline:
                print("time is up", flush=True)
                return
            self.adapt()
            while self.waiting and self.has_place(self.waiting[0]):
                self.start(self.waiting.pop(0))
            time.sleep(POLL)

    def place(self) -> str:
        if self.gpus:
            return f"{self.gpus} x {torch.cuda.get_device_name(0)}, one training each, more as that pays"
        return f"the CPU, {self.workers} at a time with {self.threads} threads each"

    def has_place(self, task: Task) -> bool:
        """Whether a task can start now."""
        if self.gpus and any(each.devices > 1 for each in (task, *(worker.task for worker in self.running))):
            return not self.running
        return len(self.running) < self.workers

    def start(self, task: Task) -> None:
        study, gpu = self.contents.study(task.study), self.free_gpu()
        (study / "logs").mkdir(exist_ok=True)
        log = (study / "logs" / f"{task.name}.txt").open("ab")
        given = environment(self.contents.folder, study, self.threads)
        if self.gpus and task.devices == 1:
            given["CUDA_VISIBLE_DEVICES"] = visible(gpu)
        command = [*COMMAND, self.contents.task_file(task, self.deadline).as_posix()]
        process = subprocess.Popen(
            command, cwd=study, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        self.running.append(Worker(task, study, gpu, process, log, log.tell(), time.time()))
        print(f"{task.label} began", flush=True)

    def free_gpu(self) -> int:
        """The GPU with the fewest workers."""
        return min(range(max(self.gpus, 1)), key=lambda gpu: sum(worker.gpu == gpu for worker in self.running))

    def collect(self) -> None:
        """Note the workers that have ended."""
        for worker in [worker for worker in self.running if worker.process.poll() is not None]:
            self.running.remove(worker)
            worker.log.close()
            self.note(worker)
            self.changed, self.before = time.time(), 0.0

    def note(self, worker: Worker) -> None:
        """Say what came of a worker; one that lacked memory beside others is to run again, with fewer at a time."""
        label, status = worker.task.label, worker.process.returncode
        if status == PASSING and LATE not in worker.words() and self.running:
            self.workers, self.settled = len(self.running), True
            self.waiting.insert(0, worker.task)
            print(f"{label}: {worker.reason()}; later again, {self.workers} at a time from now on", flush=True)
            return
        late = status == PASSING and LATE in worker.words()
        self.states[label] = "done" if status == 0 else "begun" if late else "failed"
        if self.states[label] == "failed":
            self.reasons[label] = worker.reason()
        seconds = duration(time.time() - worker.started)
        print(f"{label} {self.states[label]} after {seconds} {self.reasons.get(label, '')}".rstrip(), flush=True)

    def adapt(self) -> None:
        """On a GPU, add a worker where that may pay, and stop adding when the last one did not."""
        if self.settled or len(self.running) < self.workers:
            return
        if any(worker.since(self.changed) < 2 for worker in self.running):
            return
        rate = sum(worker.rate for worker in self.running)
        if self.before and rate < GAIN * self.before:
            self.settled, self.workers = True, max(self.gpus, self.workers - 1)
            print(f"{self.workers} at a time: another one did not pay ({rate:,.0f} images/s)", flush=True)
        elif self.workers >= self.most or not self.has_memory():
            self.settled = True
        else:
            self.before, self.workers, self.changed = rate, self.workers + 1, time.time()

    def has_memory(self) -> bool:
        """Whether the GPU that the next worker goes to has memory free for it."""
        gpu = self.free_gpu()
        free, total = torch.cuda.mem_get_info(gpu)
        return free > ROOM * (total - free) / max(1, sum(worker.gpu == gpu for worker in self.running))

    def tell(self) -> None:
        """A line of progress, with the time that is left by the epochs so far; and when all has to end."""
        self.told = time.monotonic()
        if self.end_at < math.inf:
            self.deadline = self.end_at - ENDING - self.contents.size() / WRITING
        done, seconds = list(self.states.values()).count("done"), left(self.running, self.waiting)
        about = "" if seconds is None else f", about {duration(seconds)} left"
        if self.deadline < math.inf:
            about += f", time is up in {duration(max(0.0, self.deadline - time.time()))}"
        epochs = ", ".join(f"{each.task.label} {len(each.epochs)}/{each.task.epochs}" for each in self.running)
        print(f"{done} of {len(self.contents.tasks)} done{about}{epochs and f'; epochs: {epochs}'}", flush=True)

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
            done = self.contents.is_done(worker.task)
            self.states[worker.task.label] = "done" if done else "begun"
        self.running.clear()

    def outcomes(self) -> list[dict[str, Any]]:
        """What the result says of each training."""
        labels = [task.label for task in self.contents.tasks]
        return [
            {"name": each, "state": self.states.get(each, "waiting"), "reason": self.reasons.get(each, "")}
            for each in labels
        ]

    def failed(self) -> list[str]:
        return [label for label, state in self.states.items() if state == "failed"]

    def summary(self) -> str:
        """6 done, 2 begun"""
        states = [each["state"] for each in self.outcomes()]
        counts = {state: states.count(state) for state in ("done", "begun", "waiting", "failed")}
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def work(task: Task) -> float:
    """How much there is to do, for the order: seconds at home; what never ran there leads, by its images."""
    return task.seconds if task.seconds is not None else 1e6 + task.epochs * task.images


def visible(gpu: int) -> str:
    """The GPU's name for CUDA, which may have been told of some alone."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names[gpu] if names else str(gpu)
