"""FER2013 is the same from its tables and from Kaggle's folders, in the official splits."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.datasets import opened
from pipeline.stage import StageError
from tests.trees import encoded, fer2013_csv, fer2013_folders, put, striped


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
