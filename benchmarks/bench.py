"""What a benchmark is made of: two sides, measured alternately, and their ratio against a target."""

import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SHORT = bool(os.environ.get("SHORT"))  # all once, and little of it: whether rows can be measured, not how fast


def few(many: Any, some: Any) -> Any:
    """`some` in a short run, else `many`."""
    return some if SHORT else many


ROUNDS = few(5, 1)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: `ours` and `peer` in `unit`, the median of the rounds' ratios, and what it is to be."""

    what: str
    unit: str
    ours: float
    peer: float
    ratio: float
    low: float  # the smallest ratio of a round
    high: float
    target: str  # such as ">= 40"
    note: str = ""  # what was compared, or why it misses

    @property
    def met(self) -> bool:
        sign, bound = self.target.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)


def compare(
    what: str,
    unit: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    target: str,
    *,
    rounds: int = 0,  # other than ROUNDS
    note: str = "",
) -> Row:
    """Measure both sides in turn, ROUNDS times, after one that does not count; each returns its number."""
    if not SHORT:
        ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds or ROUNDS)]
    ratios = [mine / other for mine, other in pairs]
    columns = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Row(what, unit, *columns, statistics.median(ratios), min(ratios), max(ratios), target, note)


def rate(work: Callable[[], int], seconds: float = few(1.0, 0.0)) -> float:
    """Items a second of `work`, which returns how many it did; repeated for at least `seconds`."""
    done, started = 0, time.perf_counter()
    while True:
        done += work()
        spent = time.perf_counter() - started
        if spent >= seconds:
            return done / spent


class Worker:
    """A process that calls `make(*arguments)` once, and then what that returned, each time it is called itself.

    So what a process imports and builds is left out of what is measured.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any, **environment: str) -> None:
        context, before = multiprocessing.get_context("spawn"), dict(os.environ)
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_serve, args=(far, make, arguments))
        os.environ.update(environment)
        self.process.start()
        os.environ.clear()
        os.environ.update(before)
        far.close()
        self.result()

    def begin(self, *arguments: Any) -> None:
        self.pipe.send(arguments)

    def result(self) -> Any:
        """What the call returned; EOFError if the process ended."""
        return self.pipe.recv()

    def __call__(self, *arguments: Any) -> Any:
        self.begin(*arguments)
        return self.result()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    work = make(*arguments)
    pipe.send(None)
    with contextlib.suppress(EOFError):  # the other end is closed: no more calls
        while True:
            pipe.send(work(*pipe.recv()))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(rows: list[Row]) -> str:
    """GitHub markdown."""
    head = "| what | ours | peer | unit | ratio (range) | target | |\n|---|---:|---:|---|---:|---:|---|\n"
    return head + "".join(
        f"| {row.what} | {row.ours:,.4g} | {row.peer:,.4g} | {row.unit}"
        f" | {row.ratio:.3g} ({row.low:.3g} to {row.high:.3g})"
        f" | {row.target} | {'met' if row.met else 'missed'}{': ' + row.note if row.note else ''} |\n"
        for row in rows
    )
