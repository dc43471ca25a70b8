"""Layouts that several data sets share: folders per split and class."""

import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from pipeline.base.errors import StageError, shown
from pipeline.datasets.collection import Image
from pipeline.datasets.decode import decode, decoded, of_size
from pipeline.datasets.tree import Tree
from pipeline.images.picture import SUFFIXES, heif_remedy, lacks_decoder

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"), "unlabelled"),
}
BESIDE = r"(?:(?:set|data|image|img|photo|picture|split|folder|dir|seg)s?|[\W\d_])*"  # what else such a name holds
SPLIT_FOLDER = re.compile(f"{BESIDE}({'|'.join(SPLIT_NAMES)}){BESIDE}")


@dataclass(frozen=True)
class Found:
    """An image file in a folder of a class."""

    path: str
    split: str
    label: str  # a class name

    @property
    def stem(self) -> str:
        return self.path.rpartition("/")[2].rpartition(".")[0]  # it has a suffix, for it is an image

    @property
    def jpeg(self) -> bool:
        return self.path.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif"))


def is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def image_paths(tree: Tree) -> list[str]:
    """The files that are named as images; raises StageError for one that nothing here decodes."""
    paths = [path for path in tree.paths if is_image(path)]
    if missing := next(filter(lacks_decoder, paths), None):
        raise heif_remedy(f"{tree.label}: {shown(missing)}")
    return paths


def by_suffix(paths: Iterable[str]) -> str:
    """How many files have which suffix: `3 .txt, 1 .csv`; the rarest of more than six as one number."""
    counts = Counter(shown(posixpath.splitext(path)[1].lower(), 12) or "without a suffix" for path in paths)
    named = [f"{n:,} {suffix}" for suffix, n in counts.most_common(6)]
    rest = counts.total() - sum(n for _, n in counts.most_common(6))
    return ", ".join([*named, f"{rest:,} others"] if rest else named)


def say_what_is_passed_over(tree: Tree) -> None:
    """One line on stderr for files that are no images by name, and for folders that are hidden, if there are any."""
    left = by_suffix(path for path in tree.paths if not is_image(path))
    hidden = ", ".join(shown(folder, 40) for folder in tree.hidden[:6]) + ", ..." * (len(tree.hidden) > 6)
    parts = [f"files that are not named as images: {left}"] * bool(left) + [f"hidden folders: {hidden}"] * bool(hidden)
    if parts:
        print(f"versus: {tree.label}: passed over {'; '.join(parts)}", file=sys.stderr)


@cache
def split_of(folder: str) -> str:
    """The split that a folder's name means, whatever its case and what stands beside: `seg_train`, `Test images`.

    "unlabelled" where it means images without a class; empty where it means none.
    """
    match = SPLIT_FOLDER.fullmatch(folder.casefold())
    return SPLIT_NAMES[match[1]] if match else ""


def class_folders(tree: Tree, folders: Mapping[str, str], splits: tuple[str, ...], layouts: str) -> list[Found]:
    """Images in `<anywhere>/<split>/<class>/`, for data sets whose classes are known.

    `folders` maps a class folder's name in lower case to its class. Raises StageError if there is no such layout, if
    it is there twice, if a split is missing, or if a folder beside the classes is none.
    """
    found: dict[str, list[Found]] = {}  # folder that holds the splits -> images
    strangers: dict[str, str] = {}
    for path in filter(is_image, tree.paths):
        above, _, class_folder = path.rpartition("/")[0].rpartition("/")
        base, _, split_folder = above.rpartition("/")
        split = split_of(split_folder)
        if split and class_folder.lower() in folders:
            found.setdefault(base, []).append(Found(path, split, folders[class_folder.lower()]))
        elif split:
            strangers.setdefault(base, f"{split_folder}/{class_folder}")
    if not found:
        raise StageError(f"{tree.label}: no layout of this data set; expected {layouts}")
    if len(found) > 1:
        raise StageError(
            f"{tree.label}: holds the data set more than once: below"
            f" {' and '.join(base or 'the source itself' for base in sorted(found)[:2])}; set dataset.source to one"
        )
    base, images = next(iter(found.items()))
    if base in strangers:
        raise StageError(
            f"{tree.label}: {shown(strangers[base])} is no class of this data set; it has {', '.join(folders)}"
        )
    missing = [split for split in splits if split not in {image.split for image in images}]
    if missing:
        raise StageError(f"{tree.label}: no images in {missing[0]}/<class>/; expected {layouts}")
    return images


def by_number(found: Sequence[Found]) -> list[Found]:
    """The files in the order of their numbers, which is that of the official ones; none where some have no number."""
    numbered = all(file.stem.isdecimal() for file in found)
    return sorted(found, key=lambda file: int(file.stem)) if numbered else []


def from_file(tree: Tree, path: str, mode: str = "", side: int = 0) -> Callable[[], np.ndarray]:
    """A function that reads one image: uint8 (H, W, C)."""
    return partial(_read, tree, path, mode, side)


def _read(tree: Tree, path: str, mode: str, side: int) -> np.ndarray:
    name = f"{tree.label}: {shown(path)}"
    pixels = decode(tree.read(path), name, mode)
    return of_size(pixels, side, name) if side else pixels


def in_memory(images: Sequence[Image]) -> list[Image]:
    """The same images, read once and kept, for data sets that are small and have to be sorted by content."""
    return [replace(image, pixels=partial(np.asarray, pixels)) for image, pixels in decoded(images)]


def held(name: str, label: str, split: str, pixels: np.ndarray) -> Image:
    """An image whose pixels (H, W, C) are in memory."""
    return Image(name, label, split, partial(np.asarray, pixels))
