"""Anybody's folders of images, in the layouts people keep them in."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import opened
from pipeline.datasets.collection import Collection
from tests.trees import archived, class_tree, encoded, put, striped


def read(source: Path) -> Collection:
    with opened("folder", str(source)) as (_, collection):
        return collection


def splits(collection: Collection) -> dict[str, int]:
    return Counter(image.split for image in collection.images)


def test_classes_alone_have_no_official_split(tmp_path: Path) -> None:
    collection = read(class_tree(tmp_path / "pets", {"": {"dog": 2, "cat": 3}}))
    assert collection.classes == ("cat", "dog")
    assert collection.title == "pets"
    assert splits(collection) == {"": 5}
    assert collection.images[0].name == "cat/0000.png"


def test_official_splits_are_kept(tmp_path: Path) -> None:
    per_class = {"cat": 3, "dog": 3}
    assert splits(read(class_tree(tmp_path / "a", {"train": per_class, "test": per_class}))) == {"train": 6, "test": 6}
    three = class_tree(tmp_path / "b", {"Training": per_class, "valid": per_class, "Test": per_class})
    assert splits(read(three)) == {"train": 6, "val": 6, "test": 6}


def test_archive_with_a_folder_at_the_top_reads_like_the_folder(tmp_path: Path) -> None:
    class_tree(tmp_path / "outer" / "inner", {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}})
    put(tmp_path / "outer" / "README.txt", b"my pets")
    direct, packed = read(tmp_path / "outer" / "inner"), read(archived(tmp_path / "outer"))
    assert [image.name for image in packed.images] == [image.name for image in direct.images]


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "n", {"": {"10": 1, "9": 1, "1": 1}})
    assert read(tree).classes == ("1", "9", "10")


def test_class_in_test_that_training_lacks_is_named(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "cow": 1}})
    with pytest.raises(StageError, match="class 'cow' is in test but has no training images"):
        read(tree)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"": {"cat": 3}}, r"lies in no class's folder|one class found"),
        ({"train": {"cat": 3}}, "one class found, two needed"),
        ({"test": {"cat": 3, "dog": 3}}, "no images in train/<class>/"),
        ({"train": {"cat": 3, "dog": 3}, "extra": {"cat": 1}}, "extra lies beside train"),
        ({"train": {"cat": 3, "dog": 3}, "val": {"cat": 1}, "valid": {"cat": 1}}, "name a split twice"),
        ({}, "no images"),
    ],
)
def test_other_layouts_are_refused_with_what_was_expected(
    tmp_path: Path, counts: dict[str, dict[str, int]], message: str
) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(StageError, match=rf"({message}).*; expected train/<class>/"):
        read(class_tree(tmp_path / "t", counts))


def test_loose_image_is_named(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 1, "dog": 1}})
    put(tree / "loose.png", encoded(np.zeros((4, 4, 1), np.uint8)))
    with pytest.raises(StageError, match=r"loose\.png lies in no class's folder"):
        read(tree)


def test_circle_of_links_is_walked_once(tmp_path: Path) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 1, "dog": 1}})
    (tree / "cat" / "again").symlink_to(tree)
    assert len(read(tree).images) == 2


def test_linked_folders_are_read(tmp_path: Path) -> None:
    kept = class_tree(tmp_path / "kept", {"": {"cat": 2, "dog": 3}})
    for folder in ("train", "test"):
        (tmp_path / "t" / folder).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "t" / folder / name).symlink_to(kept / name)
    assert splits(read(tmp_path / "t")) == {"train": 5, "test": 5}


# Nothing vanishes unseen

IMAGE = encoded(striped(1, 8, 8, 3, np.random.default_rng(0)))


def files(root: Path, *paths: str, folders: tuple[str, ...] = ()) -> Path:
    """Image files, whatever they are called, and empty folders."""
    for path in paths:
        put(root / path, IMAGE)
    for path in folders:
        (root / path).mkdir(parents=True)
    return root


@pytest.mark.parametrize("suffix", ["jfif", "JFIF", "jpe", "avif", "JPG", "Tiff", "webp", "bmp", "jp2"])
def test_a_class_of_any_suffix_that_is_read_is_a_class(tmp_path: Path, suffix: str) -> None:
    collection = read(files(tmp_path / "t", f"fox/1.{suffix}", f"fox/2.{suffix}", "owl/1.png"))
    assert (collection.classes, len(collection.images)) == (("fox", "owl"), 3)


@pytest.mark.parametrize(
    ("paths", "empty", "said"),
    [
        (("cat/1.png", "dog/1.png"), "fox", "the folder fox is empty; put its images there, or remove it"),
        (("cat/1.png",), "fox", "the folder fox is empty"),
        (
            ("cat/1.png", "dog/1.png", "fox/1.xyz", "fox/2.xyz", "fox/3"),
            "",
            "fox holds no images, but 2 .xyz, 1 without",
        ),
        (("cat/a/1.png", "cat/b/1.png"), "dog", "the folder dog is empty"),
        (("train/cat/1.png", "train/dog/1.png"), "test", "the folder test is empty"),
        (("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"), "test/dog", "the folder test/dog is empty"),
        (("cat/1.txt", "dog/1.txt"), "", "no images among 2 .txt; expected"),
    ],
)
@pytest.mark.parametrize("kind", ["", "zip", "tar"])
def test_a_class_or_split_without_images_is_refused_by_name(
    tmp_path: Path, paths: tuple[str, ...], empty: str, said: str, kind: str
) -> None:
    root = files(tmp_path / "t", *paths, folders=(empty,) * bool(empty))
    with pytest.raises(StageError, match=said):
        read(archived(root, kind) if kind else root)


def test_what_is_passed_over_is_counted_by_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = files(
        tmp_path / "t", "cat/1.png", "dog/1.png", ".net/1.png", "cat/a.txt", "cat/B.TXT", "dog/README", "x.csv"
    )
    assert read(root).classes == ("cat", "dog")
    assert capsys.readouterr().err == (
        f"versus: {root}: passed over files that are not named as images: 2 .txt, 1 without a suffix, 1 .csv; hidden"
        " folders: .net\n"
    )


def test_what_network_drives_and_systems_leave_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    litter = ("@eaDir/1.png", "cat/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/fox/1.png", ".AppleDouble/1.png")
    more = (
        "cat/._1.png",
        "$RECYCLE.BIN/1.png",
        "System Volume Information/1.png",
        "@__thumb/1.jpg",
        "lost+found/1.png",
    )
    collection = read(files(tmp_path / "t", "cat/1.png", "dog/1.png", *litter, *more))
    assert [image.name for image in collection.images] == ["cat/1.png", "dog/1.png"]
    assert not capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_named(nobody_folder: Path) -> None:
    root = files(nobody_folder / "t", "cat/1.png", "dog/1.png", "fox/1.png", "lost+found/1.png")
    for locked in ("lost+found", "fox"):
        (root / locked).chmod(0)
    try:
        with pytest.raises(StageError, match="the folder fox cannot be read: Permission denied; mend its permissions"):
            read(root)
        (root / "fox").rename(root / ".fox")
        assert read(root).classes == ("cat", "dog"), "what is hidden need not be readable"
        (root / "dog/1.png").chmod(0)
        with pytest.raises(StageError, match=r"dog/1\.png: cannot be read: Permission denied"):
            read(root).images[1].pixels()
    finally:
        for locked in ("lost+found", ".fox"):
            (root / locked).chmod(0o700)


# Splits under other names


def classes_in(*roots: str) -> list[str]:
    return [f"{root}/{name}/{n}.png" for root in roots for name in ("cat", "dog") for n in range(2)]


@pytest.mark.parametrize(
    ("roots", "found"),
    [
        (("training_set", "test_set"), ("train", "test")),
        (("training_set/training_set", "test_set/test_set"), ("train", "test")),
        (("seg_train/seg_train", "seg_test/seg_test"), ("train", "test")),
        (("train_images", "validation_images", "Test Images"), ("train", "val", "test")),
        (("TRAIN", "Dev", "EVAL"), ("train", "val", "test")),
        (("top/trainset", "top/testset"), ("train", "test")),
        (("Training-Data", "holdout"), ("train", "test")),
        (("train2017", "val2017"), ("train", "val")),
        (("train/images", "valid/images", "test/images"), ("train", "val", "test")),
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path: Path, roots: tuple[str, ...], found: tuple[str, ...]) -> None:
    collection = read(files(tmp_path / "t", *classes_in(*roots)))
    assert collection.classes == ("cat", "dog")
    assert splits(collection) == dict.fromkeys(found, 4)


def test_images_to_be_predicted_are_passed_over_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Intel image data set has a folder of images without a class."""
    paths = classes_in("seg_train/seg_train", "seg_test/seg_test")
    collection = read(files(tmp_path / "t", *paths, "seg_pred/seg_pred/1.jpg", "seg_pred/seg_pred/2.jpg"))
    assert splits(collection) == {"train": 4, "test": 4}
    assert "passed over 2 images without a class in seg_pred" in capsys.readouterr().err


@pytest.mark.parametrize(
    "roots", [("lernen", "pruefen"), ("fold1", "fold2", "fold3"), ("cat/a", "cat/b", "dog/a", "dog/b")]
)
def test_folders_that_hold_the_same_folders_are_not_taken_for_classes(tmp_path: Path, roots: tuple[str, ...]) -> None:
    with pytest.raises(StageError, match=r"hold the same folders.*rename them to train, val and test"):
        read(files(tmp_path / "t", *classes_in(*roots)))


@pytest.mark.parametrize("names", [("test", "dev"), ("training", "running"), ("images", "set")])
def test_a_class_may_be_called_as_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = files(tmp_path / "t", *(f"{name}/1.png" for name in names), "dog/1.png", "dog/images/2.png")
    if "training" in names:
        with pytest.raises(
            StageError, match="dog lies beside training: move it away, or if training is a class, rename"
        ):
            read(root)
    else:
        assert set(read(root).classes) == {*names, "dog"}


def test_a_folder_in_each_class_changes_nothing(tmp_path: Path) -> None:
    collection = read(files(tmp_path / "t", "cat/images/1.png", "dog/images/1.png"))
    assert collection.classes == ("cat", "dog")


# Names


def test_names_composed_otherwise_are_one_and_each_file_is_opened_by_its_own(tmp_path: Path) -> None:
    """macOS and its zips take letters apart: e and an accent for é."""
    apart = unicodedata.normalize("NFD", "café")
    root = files(tmp_path / "t", "train/café/é.png", "train/dog/1.png", f"test/{apart}/{apart}.png", "test/dog/1.png")
    for source in (root, archived(root), archived(root, "tar")):
        with opened("folder", str(source)) as (_, collection):
            assert collection.classes == ("café", "dog")
            assert [image.name for image in collection.images][::2] == ["train/café/é.png", "test/café/café.png"]
            assert all(image.pixels().shape == (8, 8, 3) for image in collection.images)


def test_a_name_is_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    root = files(tmp_path / "t", "cat/1.png", "dog/1.png", "\x1b[2J\n.png")
    with pytest.raises(StageError, match=r"\\x1b\[2J\\n\.png lies in no class"):
        read(root)
