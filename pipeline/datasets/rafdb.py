"""RAF-DB, basic emotions (Li, Deng & Du 2017, doi:10.1109/CVPR.2017.277): 12,271 + 3,068 aligned RGB faces.

Sources: the official `list_patition_label.txt` (so spelt) with `aligned/*_aligned.jpg`, anywhere below the source, or
class folders `train/1..7`, `test/1..7`. Both give the same bytes: an image's name is the list's, `train_00001`.
"""

from pipeline.base.errors import StageError
from pipeline.datasets.collection import About, Collection, Image, in_order
from pipeline.datasets.layouts import class_folders, from_file, is_image
from pipeline.datasets.tree import Tree

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
)

LIST = "list_patition_label.txt"


def read(tree: Tree) -> Collection:
    """The images by split, emotion and name; raises StageError if the source holds no RAF-DB layout."""
    lists = [path for path in tree.paths if path.rsplit("/", 1)[-1] == LIST]
    if lists:
        return Collection(ABOUT.classes, in_order(_from_list(tree, lists[0]), ABOUT.classes))
    folders = {str(number): name for number, name in enumerate(ABOUT.classes, start=1)}
    folders |= {name.lower(): name for name in ABOUT.classes}
    images = [
        Image(_folder_name(file.path), file.label, file.split, from_file(tree, file.path, "RGB"))
        for file in class_folders(tree, folders, ("train", "test"), ABOUT.layouts)
    ]
    return Collection(ABOUT.classes, in_order(images, ABOUT.classes))


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


def _folder_name(path: str) -> str:
    """The list's name if the file has one, else where it lies: `train/1/0001`."""
    name = _name(path)
    return name if name.startswith(("train_", "test_")) else "/".join(path.rsplit(".", 1)[0].split("/")[-3:])


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0].removesuffix("_aligned")
