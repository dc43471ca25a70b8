"""Preparing: images a second of fetch and split together, against reading and decoding them alone on all cores.

CIFAR-10 from an archive, `cifar10.zip` in the folder that VERSUS_DATASETS names; the stages' imports and the making of
the MLflow store are left out, their logging is not.
"""

import contextlib
import io
import multiprocessing
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.bench import Row, Worker, compare, seconds
from pipeline.base import places
from pipeline.datasets.source import provided

ROOT = Path(__file__).parent.parent
_archive: zipfile.ZipFile


def stages(folder: str) -> Callable[[], float]:
    """A function that runs both stages in `folder` and returns their seconds."""
    os.chdir(folder)
    settings = YAML(typ="safe").load(ROOT / "studies/cifar10_efficient/params.yaml")
    YAML().dump({**settings, "published": []}, Path("params.yaml"))
    from pipeline.stages import fetch, split

    def both() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return seconds(fetch.main) + seconds(split.main)

    return both


def _open(path: Path) -> None:
    global _archive
    _archive = zipfile.ZipFile(path)


def _decode(names: list[str]) -> int:
    for name in names:
        np.asarray(Image.open(io.BytesIO(_archive.read(name))))
    return len(names)


def rows() -> Iterator[Row]:
    path = provided("cifar10")
    if path is None:
        print("preparing: left out, for VERSUS_DATASETS names no folder with cifar10.zip", file=sys.stderr)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
    cores = len(places.cores())
    parts = [names[index::cores] for index in range(cores)]
    with tempfile.TemporaryDirectory() as folder:
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "VERSUS_HOME": folder}
        with (
            Worker(stages, folder, **store) as ours,
            multiprocessing.get_context("spawn").Pool(cores, _open, (path,)) as pool,
        ):
            yield compare(
                f"fetch and split of {len(names):,} JPEGs against decoding alone on {cores} cores",
                "images/s",
                lambda: len(names) / ours(),
                lambda: len(names) / seconds(lambda: pool.map(_decode, parts, chunksize=1)),
                ">= 0.8",
            )
