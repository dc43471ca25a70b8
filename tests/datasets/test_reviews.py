"""What annotators said of labels is told of the images that they saw, and of no others."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import about, reviews
from pipeline.datasets.collection import Download

LABELS = np.array([4, 2, 4, 4, 0], dtype=np.uint16)
ANSWER = {
    "id": 3,
    "given_original_label": 4,
    "our_guessed_label": 9,
    "mturk": {"given": 1, "guessed": 3, "neither": 1},
}


def provided(folder: Path) -> tuple[Download, ...]:
    """The two files of a data set in a folder as VERSUS_DATASETS names it, as the data set would have them."""
    (folder / reviews.FOLDER).mkdir()
    np.save(folder / reviews.FOLDER / "labels.npy", LABELS)
    (folder / reviews.FOLDER / "answers.json").write_text(json.dumps([ANSWER]))

    def named(name: str) -> tuple[str, str]:
        return name, hashlib.sha256((folder / reviews.FOLDER / name).read_bytes()).hexdigest()

    return reviews.label_errors(named("answers.json"), named("labels.npy"))


def test_an_image_is_known_by_its_class_and_its_place_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path))
    found = reviews.read(provided(tmp_path))
    assert found.images.tolist() == [1, 0, 1, 0, 3]
    assert found.every == [
        reviews.Review(label=4, rank=2, guess=9, for_label=1, for_guess=3, for_both=0, for_neither=1)
    ]


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path))
    files = provided(tmp_path)
    (tmp_path / reviews.FOLDER / "answers.json").write_text("[]")
    with pytest.raises(StageError, match=r"answers\.json: its SHA-256 is not the published .*; replace it"):
        reviews.read(files)


def test_without_the_network_it_is_said_where_the_files_are_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path))
    monkeypatch.setattr(reviews, "cache_folder", lambda: tmp_path / "downloads")

    def away(*_: object) -> Path:
        raise StageError("download failed or broke off (no connection)")

    monkeypatch.setattr(reviews, "official_file", away)
    with pytest.raises(StageError, match=r"no connection\); get mnist_mturk\.json from https://github\.com/.* into .*"):
        reviews.read(about("mnist").reviews)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "caltech256"])
def test_published_answers_are_of_a_fixed_commit_with_a_checksum(name: str) -> None:
    for file in about(name).reviews:
        assert len(file.sha256) == 64
        assert file.urls[0].split("/")[5] == "6d5d6b31a13216290afc40e5c6319399c4d15c06"
