"""Python's search for circles among objects, paused where a hundred thousand objects are made that have none."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage within the block: each look goes through all objects, as often as their number has grown."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
