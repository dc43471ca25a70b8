"""CIFAR-10 is the same from the binary version, the Python version and a folder of PNGs; a JPEG copy is a variant."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from pipeline.datasets.cifar10 import ABOUT
from pipeline.stages import fetch
from tests.trees import archived, encoded, put, striped


def write_all(folder: Path) -> None:
    """The same images below `bin`, `py`, `png` and, not quite the same, `jpg`: two a class in training, one in test."""
    rng = np.random.default_rng(0)
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]:
        labels = rng.permutation(10)[: 10 if name == "test_batch" else 4]
        images = np.stack([striped(label, 32, 32, 3, rng) for label in labels])  # (N, 32, 32, 3)
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)  # (N, 3072)
        records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
        put(folder / "bin" / "cifar-10-batches-bin" / f"{name}.bin", records.tobytes())
        batch = {b"data": planes, b"labels": [int(label) for label in labels]}
        put(folder / "py" / "cifar-10-batches-py" / name, pickle.dumps(batch, protocol=2))
        for row, (label, image) in enumerate(zip(labels, images, strict=True)):
            split = "test" if name == "test_batch" else "train"
            place = Path(split, ABOUT.classes[label], f"{name}_{row}")
            put(folder / "png" / place.with_suffix(".png"), encoded(image))
            put(folder / "jpg" / place.with_suffix(".jpg"), encoded(image, "jpeg"))


def read(source: Path) -> list[tuple[str, str, str, bytes]]:
    with opened("cifar10", str(source)) as (_, collection):
        return [(image.name, image.label, image.split, image.pixels().tobytes()) for image in collection.images]


def test_lossless_sources_give_the_same(tmp_path: Path) -> None:
    write_all(tmp_path)
    binary = read(tmp_path / "bin")
    assert len(binary) == 30
    assert read(tmp_path / "py") == binary
    assert read(tmp_path / "png") == binary
    assert read(archived(tmp_path / "bin", "gztar")) == binary


def test_jpeg_copy_is_a_variant_that_says_what_it_costs_and_keeps_file_names(tmp_path: Path) -> None:
    write_all(tmp_path)
    with opened("cifar10", str(tmp_path / "jpg")) as (about, collection):
        assert collection.copy == "JPEG copy"
        assert "four to five points of accuracy" in fetch.describe("cifar10", about, collection)["caveats"]
        assert "JPEG" not in fetch.describe("cifar10", about, dataclasses.replace(collection, copy=""))["caveats"]
        assert [image.name for image in collection.images] == sorted(image.name for image in collection.images)[10:] + [
            image.name for image in collection.images if image.split == "test"
        ]


def test_missing_and_truncated_batches_are_named(tmp_path: Path) -> None:
    write_all(tmp_path)
    path = tmp_path / "bin" / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StageError, match=r"data_batch_3\.bin: damaged or truncated"):
        read(tmp_path / "bin")
    path.unlink()
    with pytest.raises(StageError, match="batch 3 is missing"):
        read(tmp_path / "bin")


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the pickle has run code",)


def test_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    put(tmp_path / "py" / "cifar-10-batches-py" / "test_batch", pickle.dumps({b"data": Trap()}, protocol=2))
    with pytest.raises(StageError, match=r"test_batch: .*print"):
        read(tmp_path / "py")
    assert "run code" not in capsys.readouterr().out
