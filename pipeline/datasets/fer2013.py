"""FER2013 (Goodfellow et al. 2013, arXiv:1307.0414): 35,887 grey faces of seven emotions, 48 x 48.

Sources: `fer2013.csv` or `icml_face_data.csv` of the Kaggle challenge, or Kaggle's folders. The official splits are
Training, PublicTest (validation here) and PrivateTest (test). An image's name is its split and its row in the table,
so that a table and folders made from it give the same bytes. Where the source also holds FER+'s `fer2013new.csv`
(Barsoum et al. 2016, arXiv:1608.01041), each image has its ten annotators' votes; its label stays FER2013's.
"""

import csv
import io
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import class_folders, from_file, held
from pipeline.datasets.tree import DAMAGED, Tree

SIDE = 48
SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}

ABOUT = About(
    title="FER2013",
    classes=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),  # the table's codes 0 to 6
    flip=True,
    shareable=False,
    licence="none stated; released for a research challenge on Kaggle",
    homepage="https://www.kaggle.com/competitions/challenges-in-representation-learning-facial-expression-recognition-challenge",
    votes=True,
    published={"train": 28_709, "val": 3_589, "test": 3_589},
    request="join the challenge on Kaggle (the homepage below) and download fer2013.tar.gz or icml_face_data.csv",
    layouts="fer2013.csv, icml_face_data.csv, or train/<emotion>/Training_<row>.png and"
    " test/<emotion>/{PublicTest,PrivateTest}_<row>.png",
    images="35,887 grey faces, 48 x 48",
    origin="Kaggle, on request: folders, `fer2013.csv` or `icml_face_data.csv`",
    caveats="Faces found by web searches for emotion words, cropped automatically; labels contain known errors,"
    " people agree with them on about two of three images (Goodfellow et al. 2013), and some images appear twice.",
    expressions=True,
)

TABLES = ("fer2013.csv", "icml_face_data.csv")
VOTES = "fer2013new.csv"
VOTED = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # its columns, as our classes


def read(tree: Tree) -> Collection:
    """The images by split, emotion and name; raises StageError if the source holds no FER2013 layout."""
    tables = [path for path in tree.paths if path.rsplit("/", 1)[-1].lower() in TABLES]
    if not tables and len(tree.paths) == 1 and tree.paths[0].lower().endswith(".csv"):
        tables = tree.paths
    if tables:
        return Collection(ABOUT.classes, in_order(_voted(tree, _from_table(tree, tables[0])), ABOUT.classes))
    found = class_folders(tree, {name: name for name in ABOUT.classes}, ("train", "test"), ABOUT.layouts)
    images = []
    for file in found:
        match = re.fullmatch(r"(Training|PublicTest|PrivateTest)_(\d+)", file.stem)
        if not match or (match[1] == "Training") != (file.split == "train"):
            raise StageError(
                f"{tree.label}: {file.path}: the file's name does not tell its official split; expected {ABOUT.layouts}"
            )
        pixels = from_file(tree, file.path, "L", SIDE)
        images.append(Image(f"{match[1]}_{int(match[2]):05d}", file.label, SPLITS[match[1]], pixels))
    copy = "JPEG copy" if any(file.jpeg for file in found) else ""
    return Collection(ABOUT.classes, in_order(_voted(tree, images), ABOUT.classes), copy)


def _voted(tree: Tree, images: Iterable[Image]) -> Iterator[Image]:
    """The images with the votes of FER+, whose rows are those of FER2013's table, where the source has them.

    Votes for contempt, for what nobody knows and for no face are left out: FER2013 has no such classes. Raises
    StageError where a row is missing, has no votes, or is of another official split than the image.
    """
    path = next((path for path in tree.paths if path.rsplit("/", 1)[-1].lower() == VOTES), None)
    if path is None:
        yield from images
        return
    where = f"{tree.label}: {path}"
    try:
        with tree.open(path) as file:
            rows = list(csv.DictReader(io.StringIO(file.read().decode("utf-8"), newline="")))
        usages = [row["Usage"] for row in rows]
        votes = [tuple(int(row[name]) for name in VOTED) for row in rows]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        columns = ", ".join(("Usage", *VOTED))
        raise StageError(f"{where}: not FER+'s table, with columns {columns} ({error!r})") from None
    for image in images:
        usage, _, number = image.name.partition("_")
        if int(number) >= len(rows) or usages[int(number)] != usage:
            found = usages[int(number)] if int(number) < len(rows) else "missing"
            raise StageError(
                f"{where}: row {int(number)} is {found}, but the image of that number is of {usage}: these are not the"
                " numbers of the official table; take fer2013.csv, or leave the votes out"
            )
        yield replace(image, votes=votes[int(number)])


def _from_table(tree: Tree, path: str) -> Iterator[Image]:
    """Each row of the table; raises StageError naming the line at fault."""
    where = f"{tree.label}: {path}"
    csv.field_size_limit(min(sys.maxsize, 1 << 20))
    try:
        with tree.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of text that is no number
            rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
            header = [name.strip().lower() for name in next(rows, [])]
            if not {"emotion", "pixels", "usage"} <= set(header):
                raise StageError(
                    f"{where}: line 1: columns emotion, pixels and Usage wanted, found {', '.join(header)}"
                )
            for number, row in enumerate(rows):
                yield _from_row(dict(zip(header, row, strict=False)), number, f"{where}: line {rows.line_num}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise StageError(f"{where}: line {rows.line_num}: {error}") from None
    except DAMAGED as error:
        raise StageError(f"{where}: cannot be read: {error}") from None


def _from_row(row: dict[str, str], number: int, where: str) -> Image:
    usage, emotion = row.get("usage", "").strip(), row.get("emotion", "").strip()
    if usage not in SPLITS:
        raise StageError(f"{where}: Usage is {usage!r}; one of {', '.join(SPLITS)} wanted")
    if emotion not in tuple("0123456"):
        raise StageError(f"{where}: emotion is {emotion!r}; a code from 0 to 6 wanted")
    try:
        pixels = np.fromstring(row.get("pixels", ""), dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        pixels = np.empty(0, np.int64)
    if pixels.size != SIDE * SIDE or pixels.min() < 0 or pixels.max() > 255:
        raise StageError(f"{where}: pixels are not {SIDE * SIDE:,} numbers from 0 to 255")
    image = pixels.astype(np.uint8).reshape(SIDE, SIDE, 1)
    return held(f"{usage}_{number:05d}", ABOUT.classes[int(emotion)], SPLITS[usage], image)
