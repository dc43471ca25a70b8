"""MNIST is the same from the official idx files and from a folder of PNGs."""

import gzip
import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from pipeline.datasets.collection import Collection
from pipeline.datasets.decode import decode
from tests.trees import encoded, put, striped


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_both(folder: Path, per_class: int = 3) -> None:
    """The same images as idx files below `idx` (official order) and as PNGs below `png`."""
    rng = np.random.default_rng(0)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        labels = rng.permutation(np.repeat(np.arange(10), per_class)).astype(np.uint8)  # (N,)
        images = np.stack([striped(label, 28, 28, 1, rng)[..., 0] for label in labels])  # (N, 28, 28)
        put(folder / "idx" / f"{prefix}-images-idx3-ubyte.gz", gzip.compress(idx(images)))
        put(folder / "idx" / f"{prefix}-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
        for row, (label, image) in enumerate(zip(labels, images, strict=True)):
            put(folder / "png" / split / str(label) / f"{row}.png", encoded(image[..., None]))


def content(collection: Collection) -> list[tuple[str, str, str, bytes]]:
    return [(image.name, image.label, image.split, image.pixels().tobytes()) for image in collection.images]


def test_idx_files_and_folders_give_the_same(tmp_path: Path) -> None:
    write_both(tmp_path)
    with opened("mnist", str(tmp_path / "idx")) as (_, first), opened("mnist", str(tmp_path / "png")) as (_, second):
        assert content(first) == content(second)
        assert content(first)[0][:3] == ("train/0/00000", "0", "train")
        assert len(content(first)) == 60


def test_both_know_an_images_place_among_the_official_ones_of_its_digit(tmp_path: Path) -> None:
    write_both(tmp_path)
    content = gzip.decompress((tmp_path / "idx/t10k-images-idx3-ubyte.gz").read_bytes())
    labels = np.frombuffer(gzip.decompress((tmp_path / "idx/t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    pixels = np.frombuffer(content[16:], np.uint8).reshape(-1, 784)
    wanted = {
        (str(digit), image.tobytes()): rank for digit in range(10) for rank, image in enumerate(pixels[labels == digit])
    }
    for source in ("idx", "png"):
        with opened("mnist", str(tmp_path / source)) as (_, found):
            tests = [image for image in found.images if image.split == "test"]
            assert {(image.label, image.pixels().tobytes()): image.rank for image in tests} == wanted


def test_truncated_idx_file_is_named(tmp_path: Path) -> None:
    write_both(tmp_path)
    path = tmp_path / "idx" / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-100], gzip.compress(gzip.decompress(whole)[:-1]), b"", gzip.compress(b"")):
        path.write_bytes(broken)
        with (
            pytest.raises(StageError, match=r"t10k-images-idx3-ubyte\.gz: damaged or truncated"),
            opened("mnist", str(tmp_path / "idx")),
        ):
            pass


def test_missing_idx_file_is_named(tmp_path: Path) -> None:
    write_both(tmp_path)
    (tmp_path / "idx" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(StageError, match="no file of train labels"), opened("mnist", str(tmp_path / "idx")):
        pass


def test_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_both(tmp_path)
    put(tmp_path / "png" / "train" / "3" / "odd.png", encoded(np.zeros((32, 28, 1), np.uint8)))
    with pytest.raises(StageError, match=r"train/3/odd\.png: 28 x 32 pixels"), opened("mnist", str(tmp_path / "png")):
        pass


def test_class_that_mnist_lacks_is_named(tmp_path: Path) -> None:
    write_both(tmp_path)
    put(tmp_path / "png" / "test" / "ten" / "0.png", encoded(np.zeros((28, 28, 1), np.uint8)))
    with pytest.raises(StageError, match="test/ten is no class"), opened("mnist", str(tmp_path / "png")):
        pass


def test_png_archive_holds_the_official_images(provided: Path) -> None:
    """Its test images, in the order of their file names, are the official idx file to the last bit."""
    with zipfile.ZipFile(provided / "mnist.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("test/")]
        names.sort(key=lambda name: int(Path(name).stem))
        images = np.stack([decode(archive.read(name), name)[..., 0] for name in names])
    labels = np.array([int(name.split("/")[1]) for name in names], np.uint8)
    assert hashlib.sha256(idx(images)).hexdigest() == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    assert hashlib.sha256(idx(labels)).hexdigest() == "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
