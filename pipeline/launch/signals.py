"""Signals that would end the process, held back while something must be done to its end."""

import contextlib
import signal
from collections.abc import Iterator

ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextlib.contextmanager
def held_back(again: bool = True) -> Iterator[None]:
    """Hold back what would end the process until the block is done; the first that came is then sent, if `again`."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in came[:1] if again else []:
            signal.raise_signal(first)
