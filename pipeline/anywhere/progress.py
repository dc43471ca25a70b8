"""How far trainings are that run in processes of their own, by the notes that they leave of their epochs."""

import dataclasses
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.anywhere.contents import Task, epochs_told, told


@dataclasses.dataclass
class Worker:
    """A task that runs."""

    task: Task
    study: Path
    gpu: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    said: int  # bytes of the log that earlier calls wrote
    started: float  # seconds since 1970

    @property
    def epochs(self) -> list[float]:
        """When each epoch ended that the training told of."""
        return list(epochs_told(self.study / told(self.task.name)).values())

    @property
    def rate(self) -> float:
        """Images per second of the last epoch."""
        times = self.epochs
        return self.task.images / max(1e-6, times[-1] - times[-2])

    def since(self, moment: float) -> int:
        """Epochs that it has ended since a moment."""
        return sum(at > moment for at in self.epochs)

    def words(self) -> str:
        """What it said, in this call."""
        return Path(self.log.name).read_bytes()[self.said :].decode(errors="replace").strip()

    def reason(self) -> str:
        """What it said last, if it failed."""
        lines = self.words().splitlines()
        ours = (line for line in reversed(lines) if line.startswith("versus: "))
        last = next(ours, lines[-1] if lines else f"exit status {self.process.returncode}")
        return last.removeprefix("versus: ")


def left(running: Sequence[Worker], waiting: Sequence[Task]) -> float | None:
    """Seconds until all is done, if every image takes as long as those so far; None before there are any."""
    seconds = images = ahead = 0.0
    for worker in running:
        if new := worker.since(worker.started):
            seconds += time.time() - worker.started
            images += new * worker.task.images
        ahead += (worker.task.epochs - len(worker.epochs)) * worker.task.images
    ahead += sum(task.epochs * task.images for task in waiting)
    return ahead * seconds / images / len(running) if images else None
