"""The data sets: one module each, with `ABOUT`, what is known of it, and `read`, what is found at the source."""

import contextlib
from collections.abc import Iterator

from pipeline.base.garbage import uncollected
from pipeline.datasets.collection import About, Collection
from pipeline.datasets.source import open_source
from pipeline.params import registry


def about(name: str) -> About:
    """What is known of data set `name` before a file of it is seen."""
    return registry.load("datasets", name).ABOUT


@contextlib.contextmanager
def opened(name: str, source: str) -> Iterator[tuple[About, Collection]]:
    """Data set `name` from `source` (empty: its official source); the files stay open within the block.

    Raises StageError if the source is missing, broken, or holds something else.
    """
    module = registry.load("datasets", name)
    if module.ABOUT.embedded:
        yield module.ABOUT, module.read()
        return
    with contextlib.ExitStack() as stack:
        with uncollected():
            tree = stack.enter_context(open_source(name, module.ABOUT, source))
            collection = module.read(tree)
        yield module.ABOUT, collection
