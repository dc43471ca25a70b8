"""Anybody's images in folders: `train/<class>/` and `test/<class>/` (with or without `val/<class>/`), or `<class>/`.

Classes are the folders of the training images, by name (by number if all are numbers). Images may be of any size and
mode; a data set that is grey throughout stays grey.
"""

from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import SPLIT_FOLDERS, from_file, is_image
from pipeline.datasets.tree import Tree
from pipeline.stage import StageError

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


def read(tree: Tree) -> Collection:
    """The images by split, class and path; raises StageError if the source holds no such folders."""
    above, paths = _below_single_folders([path.split("/") for path in tree.paths if is_image(path)])
    if not paths:
        raise StageError(f"{tree.label}: no images; expected {ABOUT.layouts}")
    splits = _splits(tree, {parts[0] for parts in paths})
    depth = 1 if splits else 0  # of the class in a path
    loose = next((parts for parts in paths if len(parts) < depth + 2), None)
    if loose:
        raise StageError(f"{tree.label}: {'/'.join(loose)} lies in no class's folder; expected {ABOUT.layouts}")
    images = [
        Image("/".join(parts), parts[depth], splits.get(parts[0], ""), from_file(tree, "/".join(above + parts)))
        for parts in paths
    ]
    classes = _in_label_order({image.label for image in images if image.split in ("", "train")})
    stranger = next((image for image in images if image.label not in classes), None)
    if stranger:
        raise StageError(f"{tree.label}: class {stranger.label!r} is in {stranger.split} but has no training images")
    if len(classes) < 2:
        raise StageError(f"{tree.label}: one class found, two needed; expected {ABOUT.layouts}")
    return Collection(classes, in_order(images, classes), title=tree.title)


def _below_single_folders(paths: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Take off the folders that hold everything, as archives often have one at the top."""
    above: list[str] = []
    while paths and len(paths[0]) > 1 and paths[0][0].lower() not in SPLIT_FOLDERS:
        if any(parts[0] != paths[0][0] for parts in paths):
            break
        above = [*above, paths[0][0]]
        paths = [parts[1:] for parts in paths]
    return above, paths


def _splits(tree: Tree, folders: set[str]) -> dict[str, str]:
    """Folder -> split; empty where the folders are classes."""
    splits = {folder: SPLIT_FOLDERS[folder.lower()] for folder in sorted(folders) if folder.lower() in SPLIT_FOLDERS}
    classes = sorted(folders - set(splits))
    if "train" not in splits.values():
        if not classes:
            raise StageError(f"{tree.label}: no images in train/<class>/; expected {ABOUT.layouts}")
        return {}  # a class may be called `test`
    if classes:
        raise StageError(f"{tree.label}: {classes[0]} lies beside train; expected {ABOUT.layouts}")
    if len(set(splits.values())) < len(splits):
        raise StageError(f"{tree.label}: {', '.join(splits)} name a split twice; expected {ABOUT.layouts}")
    return splits


def _in_label_order(classes: set[str]) -> tuple[str, ...]:
    if all(name.isdecimal() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))
