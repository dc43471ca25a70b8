"""What a benchmark is made of: two sides, measured alternately, and their ratio against a target."""

import dataclasses
import statistics
import time
from collections.abc import Callable

ROUNDS = 5


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
    note: str = ""

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
    rounds: int = ROUNDS,
    note: str = "",
) -> Row:
    """Measure both sides in turn, after one round that does not count; each returns its number."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    ratios = [mine / other for mine, other in pairs]
    columns = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Row(what, unit, *columns, statistics.median(ratios), min(ratios), max(ratios), target, note)


def rate(work: Callable[[], int], seconds: float = 1.0) -> float:
    """Items a second of `work`, which returns how many it did; repeated for at least `seconds`."""
    done, started = 0, time.perf_counter()
    while True:
        done += work()
        spent = time.perf_counter() - started
        if spent >= seconds:
            return done / spent


def table(rows: list[Row]) -> str:
    """GitHub markdown."""
    head = "| what | ours | peer | unit | ratio (range) | target | |\n|---|---:|---:|---|---:|---:|---|\n"
    return head + "".join(
        f"| {row.what} | {row.ours:,.4g} | {row.peer:,.4g} | {row.unit}"
        f" | {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        f" | {row.target} | {'met' if row.met else 'missed'}{': ' + row.note if row.note else ''} |\n"
        for row in rows
    )
