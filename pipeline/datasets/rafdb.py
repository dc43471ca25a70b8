"""RAF-DB, basic emotions (Li, Deng & Du 2017, doi:10.1109/CVPR.2017.277): 12,271 + 3,068 aligned RGB faces.

Sources: the official `list_patition_label.txt` (so spelt) with `aligned/*_aligned.jpg`, anywhere below the source, or
class folders `train/1..7`, `test/1..7`. Both give the same bytes: an image's name is the list's, `train_00001`. What
annotators saw of the people in the test images is taken from `*_manu_attri.txt`, where these are.
"""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.base.errors import StageError, shown
from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import class_folders, from_file, is_image
from pipeline.datasets.tree import Tree

ATTRIBUTES = {  # by the numbers, from 0, in lines 6 to 8 of a `*_manu_attri.txt`, behind five landmarks
    "gender": ("male", "female", "unsure"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
LANDMARKS = 5
ABOUT = About(
    title="RAF-DB",
    classes=("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"),  # the list's labels 1 to 7
    flip=True,
    shareable=False,
    licence="non-commercial research only; images may not be passed on",
    homepage="http://www.whdeng.cn/RAF/model1.html",
    published={"train": 12_271, "test": 3_068},
    request="ask its authors for it as the homepage below describes",
    layouts="EmoLabel/list_patition_label.txt with Image/aligned/*_aligned.jpg, or train/1..7/ and test/1..7/",
    images="15,339 colour faces, 100 x 100",
    origin="its owners, on request: class folders or the official list",
    caveats="Faces from the web, each labelled by about 40 people; the label is what most of them saw. Classes are far"
    " from balanced, and so are ages and ethnic groups.",
    expressions=True,
    attributes=tuple(ATTRIBUTES),
)

LIST, ANNOTATION = "list_patition_label.txt", "_manu_attri.txt"


def read(tree: Tree) -> Collection:
    """The images by split, emotion and name; raises StageError if the source holds no RAF-DB layout."""
    lists = [path for path in tree.paths if path.rsplit("/", 1)[-1] == LIST]
    if lists:
        return Collection(ABOUT.classes, in_order(_annotated(tree, _from_list(tree, lists[0])), ABOUT.classes))
    folders = {str(number): name for number, name in enumerate(ABOUT.classes, start=1)}
    folders |= {name.lower(): name for name in ABOUT.classes}
    images = [
        Image(_folder_name(file.path), file.label, file.split, from_file(tree, file.path, "RGB"))
        for file in class_folders(tree, folders, ("train", "test"), ABOUT.layouts)
    ]
    return Collection(ABOUT.classes, in_order(_annotated(tree, images), ABOUT.classes))


def _from_list(tree: Tree, path: str) -> list[Image]:
    """Each line of the official list, such as `train_00001.jpg 5`; raises StageError naming what is at fault."""
    aligned = {_name(file): file for file in tree.paths if is_image(file) and file.split("/")[-2:-1] == ["aligned"]}
    if not aligned:
        raise StageError(f"{tree.label}: no images in a folder 'aligned'; expected {ABOUT.layouts}")
    images, missing = [], []
    for number, line in enumerate(tree.read(path).decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        file, _, label = line.strip().partition(" ")
        name, label = _name(file), label.strip()
        split = name.split("_")[0]
        if split not in ("train", "test") or label not in tuple("1234567"):
            raise StageError(f"{tree.label}: {path}: line {number}: {line.strip()!r}; 'train_00001.jpg 5' is the form")
        if name not in aligned:
            missing.append(f"{name}_aligned.jpg")
            continue
        images.append(Image(name, ABOUT.classes[int(label) - 1], split, from_file(tree, aligned[name], "RGB")))
    if missing:
        raise StageError(f"{tree.label}: {len(missing):,} images of {LIST} are missing, first aligned/{missing[0]}")
    return images


def _annotated(tree: Tree, images: Sequence[Image]) -> list[Image]:
    """The images, those of the test split with their attributes: nothing asks for those of others."""
    files = {path.rsplit("/", 1)[-1].removesuffix(ANNOTATION): path for path in tree.paths if path.endswith(ANNOTATION)}
    return [
        replace(image, attributes=_attributes(tree, files[image.name]))
        if image.split == "test" and image.name in files
        else image
        for image in images
    ]


def _attributes(tree: Tree, path: str) -> tuple[str, ...]:
    """What annotators saw of the person in an image; raises StageError naming the file and the line at fault."""
    lines = tree.read(path).decode("utf-8", "replace").split("\n", LANDMARKS + len(ATTRIBUTES))[LANDMARKS:]
    lines += [""] * len(ATTRIBUTES)
    found = []
    for number, (line, (name, values)) in enumerate(zip(lines, ATTRIBUTES.items(), strict=False), start=LANDMARKS + 1):
        if line.strip() not in map(str, range(len(values))):
            raise StageError(
                f"{tree.label}: {shown(path)}: line {number}: {shown(line, 40)!r}; {name} is a number from 0 to"
                f" {len(values) - 1}"
            )
        found.append(values[int(line)])
    return tuple(found)


def _folder_name(path: str) -> str:
    """The list's name if the file has one, else where it lies: `train/1/0001`."""
    name = _name(path)
    return name if name.startswith(("train_", "test_")) else "/".join(path.rsplit(".", 1)[0].split("/")[-3:])


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0].removesuffix("_aligned")
