"""Jobs from their submission to their end: looked at in turn, tried again where they died, ended on Ctrl-C."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence

from pipeline.base.lines import folded
from pipeline.launch.executor import Executor, State
from pipeline.launch.job import RESULT, STARTED
from pipeline.launch.signals import held_back
from pipeline.launch.state import Job, Ledger

NAMED = 12  # jobs that are listed by name
SOON = 0.2  # seconds until the next look after something has changed; then ever longer


@dataclasses.dataclass(frozen=True)
class Watch:
    ledger: Ledger
    on: str  # the executor's name
    executor: Executor
    jobs: Sequence[Job]
    attempts: int  # that a job has

    def until_done(self) -> None:
        """Return when every job is done or has failed; on Ctrl-C, and where nobody reads any more, end them all."""
        try:
            self.submit()
            delay = SOON
            while any(job.is_open for job in self.jobs):
                time.sleep(delay)
                delay = min(1.5 * (SOON if self.look() else delay), self.executor.poll)
        except BaseException as error:
            self.end()
            if isinstance(error, KeyboardInterrupt):
                say("launch: nothing is left running; `versus launch` goes on from here")
            raise

    def submit(self) -> None:
        self.ledger.write(self.on, self.jobs)  # a launcher killed while it submits leaves their names
        self.executor.submit([job.path for job in self.jobs])
        names = [job.name for job in self.jobs]
        listed = ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)
        print(folded(f"launch: {len(names)} jobs on {self.on}, longest first: {listed}"))
        print("launch: `versus launch --status` in another terminal shows them and their logs", flush=True)

    def look(self) -> bool:
        """Take note of what became of the jobs, submit again those that died, and say whether anything changed."""
        before = [dataclasses.replace(job) for job in self.jobs]
        unfinished = [job for job in self.jobs if job.is_open]
        states = self.executor.states([job.path for job in unfinished])
        for job in unfinished:
            note(job, states[job.path], self.attempts)
        again = [new.path for new, old in zip(self.jobs, before, strict=True) if new.attempts > old.attempts]
        if again:
            self.executor.submit(again)
        for new, old in zip(self.jobs, before, strict=True):
            self.tell(new, old)
        if before == list(self.jobs):
            return False
        self.ledger.write(self.on, self.jobs)
        return True

    def tell(self, new: Job, old: Job) -> None:
        """Print what has changed of a job."""
        done = sum(job.state == "done" for job in self.jobs)
        if new.attempts > old.attempts:
            print(f"launch: {new.name} died ({new.reason}); attempt {new.attempts}", flush=True)
        elif new.state != old.state:
            took = f" after {new.seconds:.0f} s" if new.state in ("done", "failed") else ""
            print(f"launch: {new.name} {new.state}{took} ({done} of {len(self.jobs)} done)", flush=True)

    def end(self) -> None:
        """End all jobs, however often that is asked for meanwhile; those that were not finished are stopped."""
        with held_back(again=False):
            say("launch: ending the jobs")
            self.executor.cancel([job.path for job in self.jobs])
            for job in self.jobs:
                if job.is_open:
                    job.state = "stopped"
            self.ledger.write(self.on, self.jobs)


def say(line: str) -> None:
    """Print a line; the terminal, or the program that read, may be gone."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def note(job: Job, state: State, attempts: int) -> None:
    """Take note of what became of a job; one that died is queued again while it has attempts left."""
    if state != "gone":
        job.state = state
        return
    try:
        result = json.loads((job.path / RESULT).read_text(encoding="utf-8"))
        (job.path / RESULT).unlink()
    except FileNotFoundError:
        seconds = time.time() - (job.started() or time.time())
        result = {"outcome": "died", "reason": "ended without a word", "seconds": seconds}
    job.reason, job.seconds = result["reason"], result["seconds"]
    if result["outcome"] == "done":
        job.state = "done"
    elif result["outcome"] == "fault" or job.attempts >= attempts:
        job.state = "failed"
    else:
        job.state = "queued"
        job.attempts += 1
        (job.path / STARTED).unlink(missing_ok=True)
