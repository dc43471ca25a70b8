"""JAFFE is read from its authors' file names: expression, subject, and what is missing of it."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import jaffe, opened
from pipeline.datasets.collection import Collection
from tests import trees


def read(source: Path) -> Collection:
    with opened("jaffe", str(source)) as (_, collection):
        for image in collection.images:
            assert image.pixels().shape == (8, 8, 1)
        return collection


def test_file_names_tell_expression_and_subject(tmp_path: Path) -> None:
    root = trees.jaffe(tmp_path / "jaffe", side=8)
    collection = read(root)
    assert Counter(image.label for image in collection.images) == jaffe.PUBLISHED
    assert sum(jaffe.PUBLISHED.values()) == 213
    assert {image.subject for image in collection.images} == set(trees.SUBJECTS)
    assert all(image.name.startswith(f"{image.subject}.") for image in collection.images)
    assert collection.images[0].name == "KA.AN1.1"
    assert collection.copy == ""
    archived = read(trees.archived(root))
    assert [image.name for image in archived.images] == [image.name for image in collection.images]


def test_classes_have_fer2013s_names_and_order() -> None:
    """So that weights from FER2013 keep their classifier."""
    assert jaffe.ABOUT.classes == trees.FER2013


def test_a_part_of_it_says_so(tmp_path: Path) -> None:
    collection = read(trees.jaffe(tmp_path / "jaffe", {**trees.JAFFE, "AN": 20}, side=8))
    assert collection.copy == "203 images, where 213 were published"


@pytest.mark.parametrize("name", ["KA.XX1.39.tiff", "face.png", "KA.AN.39.tiff"])
def test_a_file_of_another_name_is_refused(name: str, tmp_path: Path) -> None:
    root = trees.jaffe(tmp_path / "jaffe", side=8)
    (root / "KA.AN1.1.tiff").rename(root / name)
    with pytest.raises(StageError, match=rf"{name}: no name of JAFFE's; expected files such as KA\.AN1\.39\.tiff"):
        read(root)


def test_without_a_source_the_error_says_where_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    with pytest.raises(StageError, match=r"jaffe: JAFFE has no open download: ask its authors"), opened("jaffe", ""):
        pass
