"""fetch leaves the same bytes for the same images, or one clear line and nothing at all."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.stages import fetch
from tests.trees import (
    archived,
    class_tree,
    encoded,
    fer2013_csv,
    fer2013_folders,
    put,
    rafdb_folders,
    rafdb_official,
    recorded,
    striped,
    study,
)

RAW = ("pixels.bin", "index.csv", "info.json")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    return recorded(monkeypatch)


@pytest.fixture
def run_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: dict[str, Any]) -> Any:  # noqa: ARG001
    """Run fetch for a data set at a source, in a study of its own; gives data/raw."""
    runs = iter(range(100))

    def fetched(name: str, source: Path | str = "") -> Path:
        folder = study(tmp_path / f"study{next(runs)}", {"dataset.name": name, "dataset.source": str(source)})
        monkeypatch.chdir(folder)
        fetch.main()
        return folder / "data" / "raw"

    return fetched


def same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in RAW)


def test_raw_holds_every_image_where_the_index_says(tmp_path: Path, run_fetch: Any) -> None:
    tree = class_tree(tmp_path / "t", {"train": {"cat": 3, "dog": 2}, "test": {"dog": 1}}, size=(6, 9))
    odd = striped(0, 4, 5, 1, np.random.default_rng(1))
    put(tree / "train" / "dog" / "odd.png", encoded(odd))
    raw = run_fetch("folder", tree)
    rows = list(csv.DictReader((raw / "index.csv").read_text().splitlines()))
    assert [row["split"] for row in rows] == ["train"] * 6 + ["test"]
    assert (
        sum(int(r["height"]) * int(r["width"]) * int(r["channels"]) for r in rows)
        == (raw / "pixels.bin").stat().st_size
    )
    row = next(row for row in rows if row["name"] == "train/dog/odd.png")
    assert (row["label"], row["height"], row["width"], row["channels"]) == ("dog", "4", "5", "1")
    start = int(row["offset"])
    assert (raw / "pixels.bin").read_bytes()[start : start + 20] == odd.tobytes()
    assert json.loads((raw / "info.json").read_text())["classes"] == ["cat", "dog"]


def test_same_images_give_the_same_bytes_whatever_holds_them(tmp_path: Path, run_fetch: Any) -> None:
    official = rafdb_official(tmp_path / "official", train=2, test=1, side=12)
    first = run_fetch("rafdb", official)
    for source in (official, archived(official), archived(official, "gztar")):
        assert same(first, run_fetch("rafdb", source))
    assert same(first, run_fetch("rafdb", rafdb_folders(tmp_path / "folders", train=2, test=1, side=12)))
    faces = run_fetch("fer2013", fer2013_folders(tmp_path / "faces", train=2, val=1, test=1))
    assert same(faces, run_fetch("fer2013", fer2013_csv(tmp_path / "fer2013.csv", train=2, val=1, test=1)))


def test_data_that_differ_from_the_official_ones_are_a_named_variant(tmp_path: Path, run_fetch: Any) -> None:
    raw = run_fetch("rafdb", rafdb_folders(tmp_path / "raf", train=2, test=1, side=8))
    info = json.loads((raw / "info.json").read_text())
    assert info["variant"] == "21 of 15,339 images"
    assert info["fit_variant"] == "14 of 12,271 images"
    assert info["published"] == {"train": 12_271, "test": 3_068}


def test_variant_of_the_official_data_is_empty(run_fetch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    info = json.loads((run_fetch("digits") / "info.json").read_text())
    assert (info["title"], info["variant"], info["flip"]) == ("Digits", "", False)
    assert capsys.readouterr().out == "fetch: Digits: 1,797 images of 10 classes\n"


@pytest.mark.parametrize("top", [4096 * 4 - 1, 65535])
def test_14_bits_in_files_of_16_are_spoken_of(
    tmp_path: Path, run_fetch: Any, capsys: pytest.CaptureFixture[str], top: int
) -> None:
    """A dark image among others is one; where no image goes beyond a quarter of the range, the range is another."""
    for number, high in enumerate((5000, top)):
        values = np.linspace(0, high, 64).astype(np.uint16).reshape(8, 8, 1)
        for name in ("cat", "dog"):
            put(tmp_path / "t" / name / f"{number}.png", encoded(values))
    run_fetch("folder", tmp_path / "t")
    said = "no value of any image is above 63 of 255: if the files hold 10 to 14 bits in 16"
    assert (said in capsys.readouterr().err) == (top < 4096 * 4)


def test_what_was_fetched_is_tracked(tmp_path: Path, run_fetch: Any, logged: dict[str, Any]) -> None:
    source = rafdb_folders(tmp_path / "raf", train=2, test=1, side=8)
    run_fetch("rafdb", source)
    assert logged["metrics"] == {"fetched_train_images": 14, "fetched_test_images": 7}
    assert logged["params"]["variant"] == "21 of 15,339 images"
    ((name, digest, origin, context),) = logged["datasets"]
    assert (name, len(digest), origin, context) == ("RAF-DB", 64, str(source), "raw")


def fault(run_fetch: Any, name: str, source: Path | str) -> str:
    """The line that a fetch ends with, after a look that it has left nothing."""
    with pytest.raises(StageError) as error:
        run_fetch(name, source)
    assert not list(Path.cwd().glob("data/*"))
    assert not list(Path.cwd().glob("data/.*"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_truncated_image_is_named_and_nothing_is_left(tmp_path: Path, run_fetch: Any, kind: str) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 40, "dog": 40}}, suffix="jpg")
    bad = tree / "dog" / "0031.jpg"
    bad.write_bytes(bad.read_bytes()[:-30])
    line = fault(run_fetch, "folder", tree if kind == "folder" else archived(tree, kind))
    assert "dog/0031.jpg: unreadable or truncated image" in line


def test_missing_data_say_what_to_do(run_fetch: Any) -> None:
    assert "no open download" in fault(run_fetch, "rafdb", "")
    assert "nowhere.zip: not found" in fault(run_fetch, "rafdb", "nowhere.zip")


def test_class_without_training_images_is_named(tmp_path: Path, run_fetch: Any) -> None:
    tree = rafdb_folders(tmp_path / "raf", train=1, test=1, side=8)
    (tree / "train" / "2" / "train_00002_aligned.jpg").unlink()
    assert "class 'Fear' has no training images (1 in test)" in fault(run_fetch, "rafdb", tree)


def test_two_images_of_one_name_are_refused(tmp_path: Path, run_fetch: Any) -> None:
    tree = rafdb_folders(tmp_path / "raf", train=1, test=1, side=8)
    put(tree / "train" / "3" / "train_00001.jpg", (tree / "train" / "1" / "train_00001_aligned.jpg").read_bytes())
    assert "two images are called train_00001" in fault(run_fetch, "rafdb", tree)


def test_fault_leaves_what_an_earlier_run_made(monkeypatch: pytest.MonkeyPatch, run_fetch: Any) -> None:
    raw = run_fetch("digits")
    before = (raw / "pixels.bin").read_bytes()
    monkeypatch.chdir(study(raw.parent.parent, {"dataset.name": "rafdb", "dataset.source": "nowhere"}))
    with pytest.raises(StageError):
        fetch.main()
    assert (raw / "pixels.bin").read_bytes() == before
