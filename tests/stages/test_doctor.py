"""The doctor finds every planted fault, and nothing in clean data."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.stages import doctor, fetch, split
from tests import trees

RNG = np.random.default_rng(0)


def pack(*parts: np.ndarray, labels: list[int] | None = None) -> doctor.Pack:
    """Training, validation and test images (N, S, S, C), labelled 0 unless told."""
    sizes = [len(part) for part in parts]
    return doctor.Pack(
        parts=parts,
        split=np.repeat(np.arange(3), sizes),
        row=np.concatenate([np.arange(size) for size in sizes]),
        label=np.array(labels or [0] * sum(sizes)),
        names=tuple(f"{doctor.SPLITS[k]}/{row}" for k, size in enumerate(sizes) for row in range(size)),
    )


def noise(count: int, side: int = 24, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_clean_images_have_no_findings() -> None:
    found = doctor.examine(pack(noise(60), noise(20), noise(20)))
    numbers = {key: value for key, value in found.items() if isinstance(value, int) and key != "images"}
    assert found["images"] == 100
    assert not any(numbers.values())
    assert found["leaked_test_rows"] == []


def test_equal_pixels_are_counted_within_and_across_splits() -> None:
    train, val, test = noise(10), noise(5), noise(5)
    train[1] = train[0]
    val[2] = train[0]
    test[3] = train[4]
    test[1] = val[0]
    found = doctor.examine(pack(train, val, test))
    assert (found["duplicate_groups"], found["duplicate_images"]) == (3, 4)
    assert (found["equal_train_val"], found["equal_train_test"], found["equal_val_test"]) == (1, 1, 1)
    assert found["leaked_test_rows"] == [1, 3]
    assert found["leaked_test_images"] == 2
    names = {image["name"] for group in found["duplicates"] for image in group}
    assert names == {"train/0", "train/1", "val/2", "train/4", "test/3", "val/0", "test/1"}


def test_equal_pixels_under_two_labels_are_a_conflict_and_under_one_are_none() -> None:
    train = noise(4)
    train[1], train[3] = train[0], train[2]
    found = doctor.examine(pack(train, noise(1), noise(1), labels=[0, 1, 1, 1, 0, 0]))
    assert found["conflicting_labels"] == 1
    assert [image["label"] for image in found["conflicts"][0]] == [0, 1]


def test_many_copies_of_one_image_take_no_more_memory_than_as_many_others() -> None:
    copies = np.repeat(noise(1, 8), 1500, axis=0)
    tracemalloc.start()
    found = doctor.examine(pack(copies, noise(4, 8), noise(4, 8)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found["duplicate_images"], found["near_pairs"]) == (1499, 0)
    assert peak < 100e6  # its million pairs would take 280 MB


@pytest.mark.parametrize("change", ["brighter", "noisier", "jpeg"])
def test_a_copy_that_was_changed_a_little_is_a_near_duplicate(change: str, tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(noise(1, 6)[0]).resize((48, 48), Image.Resampling.BICUBIC))
    if change == "brighter":
        copy = (smooth * 0.8 + 30).astype(np.uint8)
    elif change == "noisier":
        copy = np.clip(smooth + RNG.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    else:
        Image.fromarray(smooth).save(tmp_path / "copy.jpg", quality=80)
        copy = np.asarray(Image.open(tmp_path / "copy.jpg"))
    found = doctor.examine(pack(np.concatenate([noise(50, 48), smooth[None]]), noise(5, 48), copy[None]))
    assert (found["near_pairs"], found["near_train_test"], found["duplicate_groups"]) == (1, 1, 0)
    assert [image["name"] for image in found["near"][0]] == ["train/50", "test/0"]


def test_near_pairs_are_those_that_comparing_all_pairs_finds() -> None:
    centres = RNG.normal(size=(300, 64))
    points = np.concatenate([centres, centres[:100] + RNG.normal(0, 0.08, (100, 64))])
    points = points - points.mean(1, keepdims=True)
    thumbnails = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    alike = np.triu(thumbnails @ thumbnails.T, 1) >= doctor.NEAR
    wanted = {(int(a), int(b)) for a, b in zip(*np.nonzero(alike), strict=True)}
    found = set(doctor.near_pairs(thumbnails))
    assert len(wanted) > 80
    assert found <= wanted
    assert len(found) >= 0.97 * len(wanted)


def test_the_work_grows_with_the_images_not_with_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand images that all share a hash are compared with CROWD neighbours each."""
    compared = []
    real = np.einsum

    def counting(subscripts: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        compared.append(len(a))
        return real(subscripts, a, b)

    monkeypatch.setattr(np, "einsum", counting)
    alike = np.tile(np.array([0.8, -0.6, 0, 0], np.float32), (10_000, 1))
    doctor.near_pairs(alike * np.array([1, 1, 0, 0], np.float32))
    assert sum(compared) <= doctor.TABLES * doctor.CROWD * 10_000


def test_blank_images_are_named_and_are_nobodys_near_duplicate() -> None:
    test = noise(3)
    test[1] = 128
    test[2] = 17
    found = doctor.examine(pack(noise(5), noise(2), test))
    assert found["blank_images"] == 2
    assert [image["name"] for image in found["blank"]] == ["test/1", "test/2"]
    assert found["near_pairs"] == 0


@pytest.fixture
def leaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one's own images, of which one lies among the training and among the test images."""
    images = trees.class_tree(tmp_path / "images", {"train": {"a": 12, "b": 12}, "test": {"a": 4, "b": 4}})
    copied = sorted((images / "train/a").iterdir())[3]
    sorted((images / "test/a").iterdir())[0].write_bytes(copied.read_bytes())
    trees.recorded(monkeypatch)
    monkeypatch.chdir(trees.study(tmp_path / "study", {"dataset.name": "folder", "dataset.source": str(images)}))
    fetch.main()
    return tmp_path / "study"


def split_with(folder: Path, rule: str) -> dict[str, int]:
    """Images per split, under a rule for duplicates."""
    images = str(folder.parent / "images")
    trees.study(folder, {"dataset.name": "folder", "dataset.source": images, "split.duplicates": rule})
    split.main()
    data = json.loads((folder / "reports/data.json").read_text())
    return {part: sum(each[part] for each in data["classes"]) for part in doctor.SPLITS} | data["duplicates"]


def test_dropping_duplicates_leaves_the_test_images_whole_and_nothing_leaks(leaky: Path) -> None:
    kept = split_with(leaky, "keep")
    assert doctor.examine(doctor.read(0))["leaked_test_images"] == 1
    dropped = split_with(leaky, "drop")
    assert doctor.examine(doctor.read(0))["leaked_test_images"] == 0
    assert dropped["test"] == kept["test"]
    assert dropped["train"] + dropped["val"] == kept["train"] + kept["val"] - 1
    assert (kept["dropped"], dropped["dropped"]) == (0, 1)


def test_duplicates_can_be_refused_with_both_names(leaky: Path) -> None:
    with pytest.raises(StageError, match=r"train/a/.* those of test/a/.*split\.duplicates: drop"):
        split_with(leaky, "error")
