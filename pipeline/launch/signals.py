"""Signals that would end the process: handled in another way for a while, or held back until something is done."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextlib.contextmanager
def handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle some signals so while the block runs, and as before after it."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, other in before.items():
            signal.signal(number, other)


@contextlib.contextmanager
def held_back(again: bool = True) -> Iterator[None]:
    """Hold back what would end the process until the block is done; the first that came is then sent, if `again`."""
    came: list[int] = []
    try:
        with handled(ENDS, lambda number, _: came.append(number)):
            yield
    finally:
        for first in came[:1] if again else []:
            signal.raise_signal(first)
