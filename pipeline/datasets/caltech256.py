"""Caltech-256 (Griffin, Holub & Perona 2007): 30,607 images of 256 categories and of clutter, of any size and mode.

Source: `001.ak47/001_0001.jpg` to `257.clutter/257_0827.jpg`, anywhere below the source. There is no official split.
Other files that lie in the folders (the official archive has such) are left out.
"""

import re

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Download, Image
from pipeline.datasets.layouts import from_file
from pipeline.datasets.reviews import label_errors
from pipeline.datasets.tree import Tree

IMAGES = 30_607

ABOUT = About(
    title="Caltech-256",
    classes=(),
    flip=True,
    shareable=False,
    licence="CC BY 4.0 for the collection; the images are their owners'",
    homepage="https://data.caltech.edu/records/nyy15-4j048",
    official=(
        Download(
            "256_ObjectCategories.tar",
            ("https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",),
            md5="67b4f42ca05d46448c6bb8ecd2220f6d",
        ),
    ),
    reviews=label_errors(
        ("caltech256_mturk.json", "36a49d8e2b826d00ef9078ce81954d3f4134c41e07b36a9d8f2633802532bc73"),
        ("caltech256_original_labels.npy", "ec788f0425f563b3833e3c8c22afb815beee3775688cfa133322470084548cc6"),
    ),
    layouts="001.ak47/001_0001.jpg ... 257.clutter/257_0827.jpg",
    images="30,607 colour, any size",
    origin="downloaded, MD5 checked",
    caveats="Images from web searches, 80 or more of each class, with a class of clutter; objects mostly stand"
    " large and in the middle, and there is no official split.",
)

FILE = re.compile(r"(?:.*/)?(\d{3})\.([^/]+)/(\1_\d{4})\.jpe?g", re.IGNORECASE)


def read(tree: Tree) -> Collection:
    """The images by class number and name; raises StageError if the source holds no such folders."""
    found = sorted((match[1], match[2], match[3], path) for path in tree.paths if (match := FILE.fullmatch(path)))
    classes = {number: name for number, name, _, _ in found}
    if len(classes) < 2:
        raise StageError(f"{tree.label}: no layout of this data set; expected {ABOUT.layouts}")
    names = list(classes.values())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise StageError(f"{tree.label}: two folders are of class {twice!r}; expected {ABOUT.layouts}")
    images = [
        Image(f"{number}.{name}/{file}", classes[number], "", from_file(tree, path, "RGB"), rank=int(file[-4:]) - 1)
        for number, name, file, path in found
    ]
    whole = len(images) == IMAGES and len(classes) == 257
    copy = "" if whole else f"{len(images):,} of {IMAGES:,} images, {len(classes)} of 257 classes"
    return Collection(tuple(names), images, copy)
