"""The data sets: one module each, with `ABOUT` (source, labels, licence) and `read` (what is found at the source).

A further data set is a module with these two and one line here.
"""

import contextlib
import importlib
from collections.abc import Iterator

from pipeline.datasets.collection import About, Collection
from pipeline.datasets.source import open_source

REGISTRY = {
    "digits": "pipeline.datasets.digits",
    "mnist": "pipeline.datasets.mnist",
    "cifar10": "pipeline.datasets.cifar10",
    "fer2013": "pipeline.datasets.fer2013",
    "rafdb": "pipeline.datasets.rafdb",
    "jaffe": "pipeline.datasets.jaffe",
    "caltech256": "pipeline.datasets.caltech256",
    "folder": "pipeline.datasets.folder",
}
EMBEDDED = ("digits",)  # ship inside a library: no source to read


@contextlib.contextmanager
def opened(name: str, source: str) -> Iterator[tuple[About, Collection]]:
    """Data set `name` from `source` (empty: its official source); the files stay open within the block.

    Raises StageError if the source is missing, broken, or holds something else.
    """
    module = importlib.import_module(REGISTRY[name])
    if name in EMBEDDED:
        yield module.ABOUT, module.read()
        return
    with open_source(name, module.ABOUT, source) as tree:
        yield module.ABOUT, module.read(tree)
