"""What people said of suspicious labels: five annotators for each (Northcutt, Athalye and Mueller 2021,
arXiv:2103.14749).

Confident learning had suspected the labels and guessed another class; each annotator saw the image and chose the given
class, the guessed one, both or neither. The files are those of https://github.com/cleanlab/label-errors (Apache-2.0),
downloaded and compared with their SHA-256: the answers by the image's place in the official test set, and the official
labels, which say the which-th of its class that is. So images are found whose source keeps them class by class.

Shapes: N official images, K classes.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.base.errors import StageError
from pipeline.datasets.collection import Download
from pipeline.datasets.download import cache_folder, official_file, sha256_of

HOME = "https://github.com/cleanlab/label-errors"
ADDRESS = "https://raw.githubusercontent.com/cleanlab/label-errors/6d5d6b31a13216290afc40e5c6319399c4d15c06"
FOLDER = "label_errors"  # of the downloads, and of VERSUS_DATASETS


@dataclass(frozen=True)
class Review:
    """What was said of one label: how many chose it, the guessed class, both or neither."""

    label: int
    rank: int  # place among the official images of its class
    guess: int
    for_label: int
    for_guess: int
    for_both: int
    for_neither: int


@dataclass(frozen=True)
class Reviews:
    """All that was said of a data set."""

    images: npt.NDArray[np.int64]  # (K,), how many official images each class has
    every: list[Review]


def label_errors(answers: tuple[str, str], labels: tuple[str, str]) -> tuple[Download, ...]:
    """The two files of a data set, each given by its name and SHA-256."""
    return (
        Download(answers[0], (f"{ADDRESS}/mturk/{answers[0]}",), answers[1]),
        Download(labels[0], (f"{ADDRESS}/original_test_labels/{labels[0]}",), labels[1]),
    )


def read(files: tuple[Download, ...]) -> Reviews:
    """The reviews in a data set's two files; raises StageError, with the remedy, where one is not to be had."""
    answers, labels = (obtained(file) for file in files)
    official = np.load(labels).astype(np.int64)  # (N,)
    rank = ranks(official)
    every = [
        Review(
            label=each["given_original_label"],
            rank=rank[each["id"]],
            guess=each["our_guessed_label"],
            for_label=each["mturk"]["given"],
            for_guess=each["mturk"]["guessed"],
            for_both=each["mturk"].get("both", 0),  # MNIST's annotators were not asked
            for_neither=each["mturk"]["neither"],
        )
        for each in json.loads(answers.read_text(encoding="utf-8"))
    ]
    return Reviews(np.bincount(official), every)


def obtained(file: Download) -> Path:
    """The file, where VERSUS_DATASETS has it, from earlier downloads, or downloaded."""
    given = Path(os.environ.get("VERSUS_DATASETS", ""), FOLDER, file.filename)
    if given.is_absolute() and given.is_file():
        if sha256_of(given) == file.sha256:
            return given
        raise StageError(f"{given}: its SHA-256 is not the published {file.sha256}; replace it by that of {HOME}")
    try:
        return official_file(file, cache_folder() / FOLDER)
    except StageError as error:
        raise StageError(f"{error}; get {file.filename} from {HOME} into {cache_folder() / FOLDER}") from None


def ranks(labels: npt.NDArray[np.int64]) -> list[int]:
    """The place of each of N images among those of its label."""
    seen: Counter[int] = Counter()
    places = []
    for label in labels.tolist():
        places.append(seen[label])
        seen[label] += 1
    return places
