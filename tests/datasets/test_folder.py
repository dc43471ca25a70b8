"""Anybody's folders of images, in the layouts people keep them in."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets import opened
from pipeline.datasets.collection import Collection
from pipeline.stage import StageError
from tests.trees import archived, class_tree, encoded, put


def read(source: Path) -> Collection:
    with opened("folder", str(source)) as (_, collection):
        return collection


def splits(collection: Collection) -> dict[str, int]:
    return Counter(image.split for image in collection.images)


def test_classes_alone_have_no_official_split(tmp_path: Path) -> None:
    collection = read(class_tree(tmp_path / "pets", {"": {"dog": 2, "cat": 3}}))
    assert collection.classes == ("cat", "dog")
    assert collection.title == "pets"
    assert splits(collection) == {"": 5}
    assert collection.images[0].name == "cat/0000.png"


def test_official_splits_are_kept(tmp_path: Path) -> None:
    per_class = {"cat": 3, "dog": 3}
    assert splits(read(class_tree(tmp_path / "a", {"train": per_class, "test": per_class}))) == {"train": 6, "test": 6}
    three = class_tree(tmp_path / "b", {"Training": per_class, "valid": per_class, "Test": per_class})
    assert splits(read(three)) == {"train": 6, "val": 6, "test": 6}


def test_archive_with_a_folder_at_the_top_reads_like_the_folder(tmp_path: Path) -> None:
    class_tree(tmp_path / "outer" / "inner", {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}})
    put(tmp_path / "outer" / "README.txt", b"my pets")
    direct, packed = read(tmp_path / "outer" / "inner"), read(archived(tmp_path / "outer"))
    assert [image.name for image in packed.images] == [image.name for image in direct.images]


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "n", {"": {"10": 1, "9": 1, "1": 1}})
    assert read(tree).classes == ("1", "9", "10")


def test_class_in_test_that_training_lacks_is_named(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "cow": 1}})
    with pytest.raises(StageError, match="class 'cow' is in test but has no training images"):
        read(tree)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"": {"cat": 3}}, r"lies in no class's folder|one class found"),
        ({"train": {"cat": 3}}, "one class found, two needed"),
        ({"test": {"cat": 3, "dog": 3}}, "no images in train/<class>/"),
        ({"train": {"cat": 3, "dog": 3}, "extra": {"cat": 1}}, "extra lies beside train"),
        ({"train": {"cat": 3, "dog": 3}, "val": {"cat": 1}, "valid": {"cat": 1}}, "name a split twice"),
        ({}, "no images"),
    ],
)
def test_other_layouts_are_refused_with_what_was_expected(
    tmp_path: Path, counts: dict[str, dict[str, int]], message: str
) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(StageError, match=rf"({message}).*; expected train/<class>/"):
        read(class_tree(tmp_path / "t", counts))


def test_loose_image_is_named(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 1, "dog": 1}})
    put(tree / "loose.png", encoded(np.zeros((4, 4, 1), np.uint8)))
    with pytest.raises(StageError, match=r"loose\.png lies in no class's folder"):
        read(tree)


def test_circle_of_links_is_walked_once(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 1, "dog": 1}})
    (tree / "cat" / "again").symlink_to(tree)
    assert len(read(tree).images) == 2


def test_linked_folders_are_read(tmp_path: Path) -> None:
    kept = class_tree(tmp_path / "kept", {"": {"cat": 2, "dog": 3}})
    for folder in ("train", "test"):
        (tmp_path / "t" / folder).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "t" / folder / name).symlink_to(kept / name)
    assert splits(read(tmp_path / "t")) == {"train": 5, "test": 5}
