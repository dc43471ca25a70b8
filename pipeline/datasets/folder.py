"""Anybody's images in folders: `train/<class>/` and `test/<class>/` (with or without `val/<class>/`), or `<class>/`.

Classes are the folders of the training images, by name (by number if all are numbers). Images may be of any size and
mode; a data set that is grey throughout stays grey.
"""

import sys
import unicodedata
from collections.abc import Container

from pipeline.base.errors import StageError, shown
from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import (
    SPLIT_NAMES,
    by_suffix,
    from_file,
    image_paths,
    say_what_is_passed_over,
    split_of,
)
from pipeline.datasets.tree import Tree

ABOUT = About(
    title="",
    classes=(),
    flip=True,
    licence="",
    homepage="",
    request="set it to the folder, archive or URL of the images",
    layouts="train/<class>/ and test/<class>/ (val/<class>/ as well, if there is one), or <class>/ alone",
    images="yours",
    origin="`train/<class>/` and `test/<class>/`, or `<class>/` alone",
    caveats="The user's own images: where they come from, who is in them and who agreed is for the user to say.",
)


Parts = tuple[str, ...]  # of a path


def read(tree: Tree) -> Collection:
    """The images by split, class and path; raises StageError if the source holds no such folders.

    Names that differ only in how Unicode composes their letters, as macOS and others do, are one name.
    """
    files: list[Parts] = [tuple(path.split("/")) for path in image_paths(tree)]
    if not files:
        held = by_suffix(tree.paths)
        raise StageError(f"{tree.label}: no images{held and f' among {held}'}; expected {ABOUT.layouts}")
    top = _above_classes(tree, files, (), SPLIT_NAMES)
    images = []
    for root, split in _roots(tree, files, top):
        below = _below(files, root)
        _refuse_loose(tree, below, root)
        _refuse_without_images(tree, below, root)
        images += [
            Image(_composed(parts[len(top) :]), _composed(parts[len(root)]), split, from_file(tree, "/".join(parts)))
            for parts in below
        ]
    classes = _in_label_order({image.label for image in images if image.split in ("", "train")})
    stranger = next((image for image in images if image.label not in classes), None)
    if stranger:
        raise StageError(
            f"{tree.label}: class '{shown(stranger.label)}' is in {stranger.split} but has no training images"
        )
    if len(classes) < 2:
        raise StageError(f"{tree.label}: one class found, two needed; expected {ABOUT.layouts}")
    say_what_is_passed_over(tree)
    return Collection(classes, in_order(images, classes), title=tree.title)


def _roots(tree: Tree, files: list[Parts], top: Parts) -> list[tuple[Parts, str]]:
    """The folders in which the classes' lie, each with its split; one without where there are no splits."""
    folders = {folder: split_of(folder) for folder in tree.subfolders("/".join(top))}
    filled = _first_parts(files, top)
    classes = [folder for folder in filled if not folders.get(folder)]
    if "train" not in (folders.get(folder) for folder in filled):
        if not classes:
            raise StageError(f"{tree.label}: no images in train/<class>/; expected {ABOUT.layouts}")
        _refuse_unknown_splits(tree, files, top, filled)
        return [(top, "")]  # a class may be called `test`
    if classes:
        raise StageError(
            f"{tree.label}: {shown(classes[0])} lies beside {_first(folders, 'train')}: move it away, or if"
            f" {_first(folders, 'train')} is a class, rename that; expected {ABOUT.layouts}"
        )
    splits = {folder: split for folder, split in folders.items() if split and split != "unlabelled"}
    empty = next((folder for folder in splits if folder not in filled), None)
    if empty:
        raise StageError(f"{tree.label}: {_without_images(tree, (*top, empty))}")
    if len(set(splits.values())) < len(splits):
        names = ", ".join(map(shown, splits))
        raise StageError(f"{tree.label}: {names} name a split twice; expected {ABOUT.layouts}")
    if left := [folder for folder in filled if folder not in splits]:
        n = sum(parts[len(top)] in left for parts in _below(files, top))
        print(f"versus: {tree.label}: passed over {n:,} images without a class in {shown(left[0])}", file=sys.stderr)
    return [(_above_classes(tree, files, (*top, folder)), split) for folder, split in splits.items()]


def _above_classes(tree: Tree, files: list[Parts], root: Parts, stop: Container[str] = ()) -> Parts:
    """The folder that holds the classes' (or the splits', whose names are in `stop`): below those that hold everything.

    Archives often have one such at the top, or one of a split's name inside that split.
    """
    while True:
        below = _below(files, root)
        first = _first_parts(below, root)
        inner = (*root, first[0])
        if len(first) > 1 or first[0].casefold() in stop or any(len(parts) <= len(inner) + 1 for parts in below):
            return root
        for folder in tree.subfolders("/".join(root)):
            if "/".join((*root, folder)) not in tree.filled:
                raise StageError(f"{tree.label}: {_without_images(tree, (*root, folder))}")
        root = inner


def _below(files: list[Parts], root: Parts) -> list[Parts]:
    return [parts for parts in files if parts[: len(root)] == root] if root else files


def _first_parts(files: list[Parts], root: Parts) -> list[str]:
    """What of `root` holds images, or is one."""
    return sorted({parts[len(root)] for parts in _below(files, root)})


def _first(folders: dict[str, str], split: str) -> str:
    return shown(next(folder for folder, found in folders.items() if found == split))


def _refuse_unknown_splits(tree: Tree, files: list[Parts], top: Parts, folders: list[str]) -> None:
    """Raise where the folders look like splits under names that are not known: each holds the same folders."""
    inner: dict[str, set[str]] = {folder: set() for folder in folders}
    for parts in _below(files, top):
        inner[parts[len(top)]].update(parts[len(top) + 1 : -1][:1])
    shared = sorted(set.intersection(*inner.values()))
    if len(folders) > 1 and len(shared) > 1:  # one alone may be `images` in each class's folder
        raise StageError(
            f"{tree.label}: {_enumerated(folders)} hold the same folders, {_enumerated(shared)}: rename them to train,"
            " val and test if they are splits, or move the images out of the folders below if they are classes;"
            f" expected {ABOUT.layouts}"
        )


def _refuse_loose(tree: Tree, files: list[Parts], root: Parts) -> None:
    loose = next((parts for parts in files if len(parts) < len(root) + 2), None)
    if loose:
        raise StageError(
            f"{tree.label}: {shown('/'.join(loose))} lies in no class's folder: move such images into one, or away;"
            f" expected {ABOUT.layouts}"
        )


def _refuse_without_images(tree: Tree, files: list[Parts], root: Parts) -> None:
    """Raise for a class's folder that holds no images: its class would be missing unseen."""
    filled = set(_first_parts(files, root))
    empty = next((folder for folder in tree.subfolders("/".join(root)) if folder not in filled), None)
    if empty:
        raise StageError(f"{tree.label}: {_without_images(tree, (*root, empty))}")


def _without_images(tree: Tree, folder: Parts) -> str:
    path = "/".join(folder)
    held = by_suffix(each for each in tree.paths if each.startswith(f"{path}/"))
    if not held:
        return f"the folder {shown(path)} is empty; put its images there, or remove it"
    return (
        f"the folder {shown(path)} holds no images, but {held}; save its images as JPEG or PNG, or move it away if it"
        " is no class"
    )


def _enumerated(names: list[str]) -> str:
    return ", ".join(shown(name, 40) for name in names[:4]) + ", ..." * (len(names) > 4)


def _composed(parts: str | Parts) -> str:
    return unicodedata.normalize("NFC", parts if isinstance(parts, str) else "/".join(parts))


def _in_label_order(classes: set[str]) -> tuple[str, ...]:
    if all(name.isdecimal() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))
