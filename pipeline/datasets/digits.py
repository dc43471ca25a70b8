"""Handwritten digits that ship inside scikit-learn: 1,797 grey images of 8 x 8 pixels, no download.

The test part of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998,
doi:10.24432/C50P49); its pixels count 0..16 and are stretched to 0..255 here. There is no official split.
"""

import numpy as np

from pipeline.datasets.collection import About, Collection
from pipeline.datasets.layouts import held

ABOUT = About(
    title="Digits",
    classes=tuple("0123456789"),
    flip=False,
    licence="CC BY 4.0",
    homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    embedded=True,
    images="1,797 grey, 8 x 8",
    origin="ships inside scikit-learn",
    caveats="Scans of digits from 13 writers, reduced to 8 x 8 pixels; training, validation and test images are drawn"
    " at random, so one writer's digits are in all three: the scores say little of a writer who is not.",
)


def read() -> Collection:
    """The images in scikit-learn's order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    images = [
        held(f"{row:04d}", str(label), "", image)
        for row, (label, image) in enumerate(zip(digits.target, pixels, strict=True))
    ]
    return Collection(ABOUT.classes, images)
