"""Layouts that several data sets share: folders per split and class."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.datasets.collection import Image
from pipeline.datasets.decode import SUFFIXES, decode, decoded, of_size
from pipeline.datasets.tree import Tree
from pipeline.stage import StageError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Found:
    """An image file in a folder of a class."""

    path: str
    split: str
    label: str  # a class name

    @property
    def stem(self) -> str:
        return posixpath.splitext(posixpath.basename(self.path))[0]

    @property
    def jpeg(self) -> bool:
        return self.path.lower().endswith((".jpg", ".jpeg"))


def is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def class_folders(tree: Tree, folders: Mapping[str, str], splits: tuple[str, ...], layouts: str) -> list[Found]:
    """Images in `<anywhere>/<split>/<class>/`, for data sets whose classes are known.

    `folders` maps a class folder's name in lower case to its class. Raises StageError if there is no such layout, if
    it is there twice, if a split is missing, or if a folder beside the classes is none.
    """
    found: dict[str, list[Found]] = {}  # folder that holds the splits -> images
    strangers: dict[str, str] = {}
    for path in filter(is_image, tree.paths):
        *above, split_folder, class_folder, _ = ["", "", *path.split("/")]
        split = SPLIT_FOLDERS.get(split_folder.lower())
        base = "/".join(above[2:])
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
        raise StageError(f"{tree.label}: {strangers[base]} is no class of this data set; it has {', '.join(folders)}")
    missing = [split for split in splits if split not in {image.split for image in images}]
    if missing:
        raise StageError(f"{tree.label}: no images in {missing[0]}/<class>/; expected {layouts}")
    return images


def from_file(tree: Tree, path: str, mode: str = "", side: int = 0) -> Callable[[], np.ndarray]:
    """A function that reads one image: uint8 (H, W, C)."""
    return partial(_read, tree, path, mode, side)


def _read(tree: Tree, path: str, mode: str, side: int) -> np.ndarray:
    name = f"{tree.label}: {path}"
    pixels = decode(tree.read(path), name, mode)
    return of_size(pixels, side, name) if side else pixels


def in_memory(images: Sequence[Image]) -> list[Image]:
    """The same images, read once and kept, for data sets that are small and have to be sorted by content."""
    return [held(image.name, image.label, image.split, pixels) for image, pixels in decoded(images)]


def held(name: str, label: str, split: str, pixels: np.ndarray) -> Image:
    """An image whose pixels (H, W, C) are in memory."""
    return Image(name, label, split, partial(np.asarray, pixels))
