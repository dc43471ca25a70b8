"""JAFFE (Lyons et al. 1998, doi:10.1109/AFGR.1998.670949): 213 grey faces of ten women, seven expressions, 256 x 256.

Source: the files as its authors give them out, `KA.AN1.39.tiff`: subject, expression and take, number. There is no
official split: cross-validate, by images (split.folds_by: image), or so that nobody is in training and test (subject).
"""

import re
from collections import Counter

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import from_file, is_image
from pipeline.datasets.tree import Tree

CODES = {"AN": "angry", "DI": "disgust", "FE": "fear", "HA": "happy", "SA": "sad", "SU": "surprise", "NE": "neutral"}
PUBLISHED = {"angry": 30, "disgust": 29, "fear": 32, "happy": 31, "sad": 31, "surprise": 30, "neutral": 30}

ABOUT = About(
    title="JAFFE",
    classes=tuple(CODES.values()),  # FER2013's names and order
    flip=True,
    shareable=False,
    licence="non-commercial research only; images may not be passed on",
    homepage="https://zenodo.org/records/3451524",
    request="ask its authors for it as the homepage below describes",
    subjects=True,
    layouts="files such as KA.AN1.39.tiff",
    images="213 grey faces of ten women, 256 x 256",
    origin="its authors, on request: files such as `KA.AN1.39.tiff`",
    caveats="213 posed expressions of ten Japanese women, in one studio: with folds drawn by image, the same women"
    " are in training and test, and nothing is shown of anybody else's face.",
    expressions=True,
)


def read(tree: Tree) -> Collection:
    """The images by expression and name, with their subjects; raises StageError naming a file that is not JAFFE's."""
    images = []
    for path in filter(is_image, tree.paths):
        file = path.rsplit("/", 1)[-1]
        match = re.fullmatch(r"([A-Z]{2})\.([A-Z]{2})(\d+)\.(\d+)\.tiff?", file, re.IGNORECASE)
        code = match[2].upper() if match else ""
        if match is None or code not in CODES:
            raise StageError(f"{tree.label}: {path}: no name of JAFFE's; expected {ABOUT.layouts}, {', '.join(CODES)}")
        subject = match[1].upper()
        name = f"{subject}.{code}{match[3]}.{match[4]}"
        images.append(Image(name, CODES[code], "", from_file(tree, path, "L"), subject))
    if not images:
        raise StageError(f"{tree.label}: no images; expected {ABOUT.layouts}")
    found = Counter(image.label for image in images)
    whole = found == PUBLISHED
    copy = "" if whole else f"{len(images):,} images, where {sum(PUBLISHED.values())} were published"
    return Collection(ABOUT.classes, in_order(images, ABOUT.classes), copy)
