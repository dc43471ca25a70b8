"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 RGB images of ten classes, 32 x 32.

Sources: the official binary or Python version, or class folders of images. Lossless ones give the same bytes: the
binary version names no images, so the canonical order is by split, class and pixels. A copy in JPEG, whose pixels
differ, is a variant; its images keep the names of their files.
"""

import io
import pickle
import re
from typing import Any

import numpy as np

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Download, Image, by_content, in_order, ranked
from pipeline.datasets.layouts import by_number, class_folders, from_file, held, in_memory
from pipeline.datasets.reviews import label_errors
from pipeline.datasets.tree import Tree

SIDE = 32
VALUES = 3 * SIDE * SIDE

ABOUT = About(
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    flip=True,
    licence="none stated; cite Krizhevsky 2009",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    published={"train": 50_000, "test": 10_000},
    official=(
        Download(
            "cifar-10-binary.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    reviews=label_errors(
        ("cifar10_mturk.json", "81b2c16c9eee060d6cc2390f6bbce1e0e7be0a050574be5177c9428f3596b5b5"),
        (
            "cifar10_test_set_original_labels.npy",
            "8fba587d5b11011df52b2a20eb4a272eeaf20c2d162554059f714d4b78d23aed",
        ),
    ),
    layouts="the official binary version (data_batch_1.bin ... test_batch.bin), the official Python version"
    " (data_batch_1 ... test_batch), or train/<class>/ and test/<class>/",
    images="60,000 colour, 32 x 32",
    origin="downloaded, SHA-256 checked",
    caveats="Images of 32 x 32 pixels; about 3 in 100 of its test images nearly equal a training image (Barz and"
    " Denzler 2020, arXiv:1902.00423).",
    copies={
        "JPEG copy": "What JPEG costs depends on its quality. Of a copy at quality 75 with 4:2:0 chroma, some 300 bytes"
        " of coded picture each, it is about four to five points of accuracy for small networks: a published ResNet-20"
        " is right on 91.7% of the original test images, on 81.0% of that copy's, and on 87.2% of them after 100,000"
        " image passes over the copy's training images."
    },
)

BATCH = re.compile(r"(?:data_batch_([1-5])|test_batch)(\.bin)?")


def read(tree: Tree) -> Collection:
    """The images in canonical order; raises StageError if the source holds no whole CIFAR-10 layout."""
    batches = {}
    for path in tree.paths:
        if match := BATCH.fullmatch(path.rsplit("/", 1)[-1]):
            batches[match[1] or "test"] = path
    if batches:
        missing = [batch for batch in ("1", "2", "3", "4", "5", "test") if batch not in batches]
        if missing:
            raise StageError(f"{tree.label}: batch {missing[0]} is missing; expected {ABOUT.layouts}")
        images = [image for batch, path in batches.items() for image in _from_batch(tree, batch, path)]
        return Collection(ABOUT.classes, by_content(images, ABOUT.classes))
    found = class_folders(tree, {name: name for name in ABOUT.classes}, ("train", "test"), ABOUT.layouts)
    in_turn = by_number(found)
    files = [
        Image(f"{file.split}/{file.label}/{file.stem}", file.label, file.split, from_file(tree, file.path, "RGB", SIDE))
        for file in in_turn or found
    ]
    files = ranked(files) if in_turn else files
    if any(file.jpeg for file in found):
        return Collection(ABOUT.classes, in_order(files, ABOUT.classes), "JPEG copy")
    return Collection(ABOUT.classes, by_content(in_memory(files), ABOUT.classes))


def _from_batch(tree: Tree, batch: str, path: str) -> list[Image]:
    content = tree.read(path)
    labels, pixels = _binary(content) if path.endswith(".bin") else _pickled(content, f"{tree.label}: {path}")
    if not len(labels) or len(labels) != len(pixels) or labels.max() > 9:
        raise StageError(f"{tree.label}: {path}: damaged or truncated CIFAR-10 batch; fetch it again")
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)  # (N, 32, 32, 3)
    split = "test" if batch == "test" else "train"
    found = [held("", ABOUT.classes[label], split, image) for label, image in zip(labels, images, strict=True)]
    return ranked(found) if split == "test" else found  # the training images lie in five files


def _binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and pixels (N, 3072): records of one byte of label and 3,072 of red, green and blue."""
    if len(content) % (1 + VALUES):
        return np.empty(0, np.uint8), np.empty((0, VALUES), np.uint8)
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + VALUES)
    return records[:, 0], records[:, 1:]


def _pickled(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and pixels (N, 3072) of the Python version, read without letting it run code."""
    try:
        batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, VALUES)
        return np.asarray(batch[b"labels"], dtype=np.uint8), pixels
    except Exception as error:  # a damaged pickle raises whatever comes along
        raise StageError(f"{name}: damaged or truncated CIFAR-10 batch ({error}); fetch it again") from None


class _Arrays(pickle.Unpickler):
    """An unpickler that knows numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: np.empty(0, np.uint8)
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"holds {module}.{name}, which has no business there")
