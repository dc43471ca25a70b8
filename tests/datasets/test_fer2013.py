"""FER2013 is the same from its tables and from Kaggle's folders, in the official splits."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from tests.trees import encoded, fer2013_csv, fer2013_folders, ferplus, put, striped


def read(source: Path) -> list[tuple[str, str, str, bytes]]:
    with opened("fer2013", str(source)) as (_, collection):
        return [(image.name, image.label, image.split, image.pixels().tobytes()) for image in collection.images]


def test_tables_and_folders_give_the_same(tmp_path: Path) -> None:
    folders = read(fer2013_folders(tmp_path / "folders"))
    assert read(fer2013_csv(tmp_path / "a" / "fer2013.csv")) == folders
    assert read(fer2013_csv(tmp_path / "b" / "fer2013" / "icml_face_data.csv", icml=True).parent.parent) == folders
    assert Counter(split for _, _, split, _ in folders) == {"train": 70, "val": 21, "test": 21}
    assert [name for name, *_ in folders[:2]] == ["Training_00000", "Training_00007"]
    assert folders[0][1] == "angry"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r",Training\n", ",Practice\n", r"line 2: Usage is 'Practice'"),
        (r"\n1,", "\n7,", r"line 3: emotion is '7'"),
        (r"\n1,\d+ ", "\n1,", r"line 3: pixels are not 2,304 numbers"),
        (r"\n1,\d+ ", "\n1,256 ", r"line 3: pixels are not"),
        (r"\n1,\d+ ", "\n1,-1 ", r"line 3: pixels are not"),
        (r"\n1,\d+ ", "\n1,x ", r"line 3: pixels are not"),
        (r"emotion,pixels", "emotion,image", r"line 1: columns emotion, pixels and Usage wanted"),
        (r"(?s)(.*),Training\n.*", r"\1", r"line \d+: Usage is ''"),
    ],
)
def test_bad_row_of_the_table_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = fer2013_csv(tmp_path / "fer2013.csv", train=2, val=1, test=1)
    text = table.read_text().replace("\r\n", "\n")
    table.write_text(re.sub(old, new, text, count=1))
    with pytest.raises(StageError, match=rf"fer2013\.csv: {message}"):
        read(table)


def test_file_that_does_not_tell_its_split_is_named(tmp_path: Path) -> None:
    import numpy as np

    folders = fer2013_folders(tmp_path / "folders", train=1, val=1, test=1)
    image = encoded(striped(0, 48, 48, 1, np.random.default_rng(0)))
    for name in ("test/angry/0001.png", "train/angry/PublicTest_99.png"):
        path = put(folders / name, image)
        with pytest.raises(StageError, match=f"{name}: .*official split"):
            read(folders)
        path.unlink()


def test_archive_of_real_faces_has_its_counts(provided: Path) -> None:
    with opened("fer2013", str(provided / "fer2013.zip")) as (_, collection):
        assert Counter(image.split for image in collection.images) == {"train": 28_406, "val": 3_534, "test": 3_534}
        happy = [image for image in collection.images if image.label == "happy"]
        assert Counter(image.split == "train" for image in happy) == {True: 7_173, False: 1_754}


def test_votes_of_fer_plus_stand_beside_the_labels(tmp_path: Path) -> None:
    """By the image's row of the table, in the order of FER2013's classes; contempt and no face are left out."""
    ferplus(fer2013_csv(tmp_path / "fer2013.csv").parent / "fer2013new.csv")
    with opened("fer2013", str(tmp_path)) as (about, collection):
        images = {image.name: image for image in collection.images}
    assert len(images) == 112
    assert images["Training_00000"].label == about.classes[0]
    assert images["Training_00000"].votes == (7, 2, 0, 0, 0, 0, 0)
    assert images["PublicTest_00076"].label == about.classes[6]
    assert images["PublicTest_00076"].votes == (2, 0, 0, 0, 0, 0, 7)
    assert images["Training_00003"].votes == (0,) * 7
    folders = fer2013_folders(tmp_path / "folders")
    ferplus(folders / "fer2013new.csv")
    with opened("fer2013", str(folders)) as (_, collection):
        assert {image.name: image.votes for image in collection.images} == {
            name: image.votes for name, image in images.items()
        }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Usage", "Split", r"not FER\+'s table, with columns Usage, anger"),
        (",7,", ",many,", r"not FER\+'s table"),
        ("Training", "PublicTest", r"row 0 is PublicTest, but the image of that number is of Training"),
        (r"(?s)PrivateTest.*", "", r"row 91 is missing, but the image of that number is of PrivateTest"),
    ],
)
def test_votes_of_other_images_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = ferplus(fer2013_csv(tmp_path / "fer2013.csv").parent / "fer2013new.csv")
    table.write_text(re.sub(old, new, table.read_text(), count=1))
    with pytest.raises(StageError, match=message):
        read(tmp_path)
