"""MNIST (LeCun, Cortes & Burges 1998): 60,000 + 10,000 grey images of handwritten digits, 28 x 28.

Sources: the four official idx files (gzipped or not), or class folders of images. Both give the same bytes: the idx
files name no images, so the canonical order is by split, digit and pixels.
"""

import gzip
import re

import numpy as np

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Download, Image, by_content, ranked
from pipeline.datasets.layouts import by_number, class_folders, from_file, held, in_memory
from pipeline.datasets.reviews import label_errors
from pipeline.datasets.tree import DAMAGED, Tree

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
SIDE = 28

ABOUT = About(
    title="MNIST",
    classes=tuple("0123456789"),
    flip=False,
    licence="CC BY-SA 3.0",
    homepage="http://yann.lecun.com/exdb/mnist/",
    published={"train": 60_000, "test": 10_000},
    official=tuple(
        Download(name, tuple(mirror + name for mirror in MIRRORS), sha256) for name, sha256 in SHA256.items()
    ),
    reviews=label_errors(
        ("mnist_mturk.json", "448bd00fc9df262c68d50d48709d7fa3d5dc966bc66580e5df20e0dcba6e5612"),
        (
            "mnist_test_set_original_labels.npy",
            "9c4b8d0ef379b2ce0d312470484d79e282a47e092738fca1edff326f9b67c20e",
        ),
    ),
    layouts="train-images-idx3-ubyte.gz and its three companions, or train/<digit>/ and test/<digit>/",
    images="70,000 grey, 28 x 28",
    origin="downloaded, SHA-256 checked",
    caveats="Centred, size-normalised digits of US census employees and high-school students; photos of handwriting"
    " look otherwise.",
)

IDX = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")


def read(tree: Tree) -> Collection:
    """The images in canonical order; raises StageError if the source holds no whole MNIST layout."""
    idx = {}
    for path in tree.paths:
        if match := IDX.fullmatch(path.rsplit("/", 1)[-1]):
            idx[match[1], match[2]] = path
    if idx:
        images = _from_idx(tree, idx, "train", "train") + _from_idx(tree, idx, "t10k", "test")
        return Collection(ABOUT.classes, by_content(images, ABOUT.classes))
    found = class_folders(tree, {digit: digit for digit in ABOUT.classes}, ("train", "test"), ABOUT.layouts)
    in_turn = by_number(found)
    files = [
        Image(file.path, file.label, file.split, from_file(tree, file.path, "L", SIDE)) for file in in_turn or found
    ]
    images = in_memory(ranked(files) if in_turn else files)
    copy = "JPEG copy" if any(file.jpeg for file in found) else ""
    return Collection(ABOUT.classes, by_content(images, ABOUT.classes), copy)


def _from_idx(tree: Tree, idx: dict[tuple[str, str], str], prefix: str, split: str) -> list[Image]:
    for kind in ("images", "labels"):
        if (prefix, kind) not in idx:
            raise StageError(f"{tree.label}: no file of {prefix} {kind}; expected {ABOUT.layouts}")
    pixels = read_idx(tree, idx[prefix, "images"], 3)  # (N, 28, 28)
    labels = read_idx(tree, idx[prefix, "labels"], 1)  # (N,)
    if len(pixels) != len(labels):
        raise StageError(f"{tree.label}: {len(pixels)} {prefix} images but {len(labels)} labels; fetch the files again")
    if pixels.shape[1:] != (SIDE, SIDE) or labels.max(initial=0) > 9:
        raise StageError(f"{tree.label}: {idx[prefix, 'images']}: not MNIST: {SIDE} x {SIDE} pixels and digits wanted")
    return ranked(
        held("", str(label), split, image[..., None])  # (28, 28, 1)
        for image, label in zip(pixels, labels, strict=True)
    )


def read_idx(tree: Tree, path: str, dimensions: int) -> np.ndarray:
    """An idx file of unsigned bytes: 0, 0, 8, the number of dimensions, big-endian sizes, then the values."""
    content = tree.read(path)
    try:
        if path.endswith(".gz"):
            content = gzip.decompress(content)
    except DAMAGED as error:
        raise StageError(f"{tree.label}: {path}: damaged or truncated ({error}); fetch it again") from None
    head = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:head], ">u4"))
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) != head + int(np.prod(shape)):
        raise StageError(f"{tree.label}: {path}: damaged or truncated idx file; fetch it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
