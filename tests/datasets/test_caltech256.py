"""Caltech-256: numbered folders, images of any size and mode, a seeded stratified split, and other files left alone."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from pipeline.datasets.collection import Download
from pipeline.datasets.download import official_file
from pipeline.stages import fetch, split
from tests import trees


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.caltech256_folders(tmp_path_factory.mktemp("caltech"))


def test_images_of_every_mode_are_read_and_other_files_are_not(source: Path) -> None:
    with opened("caltech256", str(source)) as (about, collection):
        assert collection.classes == ("thing-1", "thing-2", "thing-3")
        assert Counter(image.label for image in collection.images) == dict.fromkeys(collection.classes, 10)
        assert collection.images[0].name == "001.thing-1/001_0001"
        pixels = [image.pixels() for image in collection.images]
        assert {image.shape[2] for image in pixels} == {3}
        assert len({image.shape for image in pixels}) > 5
        assert collection.copy == "30 of 30,607 images, 3 of 257 classes"
        assert not about.shareable


def test_an_archive_gives_the_same(source: Path, tmp_path: Path) -> None:
    def read(place: Path) -> list[tuple[str, bytes]]:
        with opened("caltech256", str(place)) as (_, collection):
            return [(image.name, image.pixels().tobytes()) for image in collection.images]

    packed = tmp_path / "packed"
    packed.symlink_to(source)
    assert read(trees.archived(packed, "tar")) == read(source)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = trees.caltech256_folders(tmp_path, classes=2, count=2) / "256_ObjectCategories/001.thing-1"
    (folder / "001_0002.jpg").write_bytes(b"no image")
    with (
        opened("caltech256", str(tmp_path)) as (_, collection),
        pytest.raises(StageError, match=r"001_0002\.jpg: unreadable"),
    ):
        [image.pixels() for image in collection.images]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    trees.class_tree(tmp_path, {"train": {"a": 2, "b": 2}})
    with pytest.raises(StageError, match=r"expected 001\.ak47/001_0001\.jpg"), opened("caltech256", str(tmp_path)):
        pass


def test_the_split_is_stratified_and_seeded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.recorded(monkeypatch)
    settings = {"dataset.name": "caltech256", "dataset.source": str(source), "dataset.image_size": 24}
    drawn = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        changed = {**settings, "dataset.imbalance": 1, "split.seed": seed}
        monkeypatch.chdir(trees.study(tmp_path / name, changed))
        fetch.main()
        split.main()
        with Path("data/test/0/manifest.csv").open(newline="") as file:
            drawn.append([row["name"] for row in csv.DictReader(file)])
        for row in json.loads(Path("reports/data.json").read_text())["classes"]:
            assert (row["train"], row["val"], row["test"]) == pytest.approx((6.4, 1.6, 2), abs=0.7)
        assert np.load("data/fit/0/train_images.npy").shape[1:] == (24, 24, 3)
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_download_without_a_published_sha256_is_checked_by_its_md5(tmp_path: Path) -> None:
    trees.put(tmp_path / "a.tar", b"whole")
    digest = hashlib.md5(b"whole", usedforsecurity=False).hexdigest()
    assert official_file(Download("a.tar", (), md5=digest), tmp_path).read_bytes() == b"whole"
    with pytest.raises(StageError):
        official_file(Download("a.tar", (), md5="0" * 32), tmp_path)
