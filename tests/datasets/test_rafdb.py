"""RAF-DB is the same from the official list and from class folders."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from tests.trees import LANDMARKS, RAFDB, archived, rafdb_folders, rafdb_official


def read(source: Path) -> list[tuple[str, str, str, bytes]]:
    with opened("rafdb", str(source)) as (_, collection):
        return [(image.name, image.label, image.split, image.pixels().tobytes()) for image in collection.images]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return rafdb_official(tmp_path / "official", train=4, test=2, side=20)


def test_official_list_and_class_folders_give_the_same(tmp_path: Path, official: Path) -> None:
    images = read(official)
    assert read(rafdb_folders(tmp_path / "folders", train=4, test=2, side=20)) == images
    assert read(archived(official)) == images
    assert read(official / "basic") == images
    assert Counter((label, split) for _, label, split, _ in images) == {
        **{(label, "train"): 4 for label in RAFDB},
        **{(label, "test"): 2 for label in RAFDB},
    }
    assert images[0][:3] == ("train_00001", "Surprise", "train")
    assert len(images[0][3]) == 20 * 20 * 3


def test_listed_image_that_is_missing_is_named(official: Path) -> None:
    (official / "basic" / "Image" / "aligned" / "test_00003_aligned.jpg").unlink()
    with pytest.raises(StageError, match=r"1 images of .* are missing, first aligned/test_00003_aligned\.jpg"):
        read(official)


@pytest.mark.parametrize("line", ["train_00002.jpg 8", "train_00002.jpg", "faces_00002.jpg 2"])
def test_bad_line_of_the_list_is_named(official: Path, line: str) -> None:
    path = official / "basic" / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text().replace("train_00002.jpg 2", line))
    with pytest.raises(StageError, match="line 2: "):
        read(official)


def test_unaligned_images_alone_are_not_taken(official: Path) -> None:
    (official / "basic" / "Image" / "aligned").rename(official / "basic" / "Image" / "original")
    with pytest.raises(StageError, match="no images in a folder 'aligned'"):
        read(official)


def attributes(source: Path) -> dict[str, tuple[str, ...]]:
    with opened("rafdb", str(source)) as (about, collection):
        assert about.attributes == ("gender", "race", "age")
        return {image.name: image.attributes for image in collection.images if image.attributes}


def test_what_annotators_saw_is_told_of_test_images_where_the_source_has_it(tmp_path: Path, official: Path) -> None:
    found = attributes(official)
    assert set(found) == {f"test_{number:05d}" for number in range(1, 15)}
    assert found["test_00001"] == ("female", "Caucasian", "40-69")  # the 29th: 28 % 3, 28 // 3 % 3, 28 % 5
    assert attributes(archived(official)) == found
    (official / "basic/Annotation/manual/test_00001_manu_attri.txt").unlink()
    assert attributes(official) == {name: values for name, values in found.items() if name != "test_00001"}
    assert attributes(rafdb_folders(tmp_path / "folders", train=1, test=1, side=8)) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LANDMARKS + "0\n3\n1\n", r"line 7: '3'; race is a number from 0 to 2"),
        (LANDMARKS + "0\n1\n", r"line 8: ''; age is a number from 0 to 4"),
        ("", r"line 6: ''; gender is a number from 0 to 2"),
        ("\0" * 100_000, r"line 6: ''; gender"),
        (LANDMARKS + "\x1b[2J" * 1000 + "\n1\n1\n", r"line 6: '.{30,60}'; gender"),
        (LANDMARKS + "\uff11\n1\n1\n", r"line 6: '\uff11'; gender"),
    ],
    ids=["number", "short", "empty", "zeros", "control characters", "another script's digit"],
)
def test_an_annotation_that_is_none_is_named_with_its_line(official: Path, content: str, said: str) -> None:
    (official / "basic/Annotation/manual/test_00002_manu_attri.txt").write_text(content, encoding="utf-8")
    with pytest.raises(StageError, match=rf"basic/Annotation/manual/test_00002_manu_attri\.txt: {said}") as raised:
        read(official)
    assert str(raised.value).isprintable()


def test_two_copies_below_one_source_are_refused(tmp_path: Path) -> None:
    for copy in ("first", "second"):
        rafdb_folders(tmp_path / "both" / copy, train=1, test=1, side=8)
    with pytest.raises(StageError, match="more than once: below first and second"):
        read(tmp_path / "both")
