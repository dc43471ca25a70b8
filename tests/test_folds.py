"""Cross-validation: every image is tested once, nobody on both sides if that is asked, and each fold has a folder."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.stages import fetch, split
from tests import trees


@pytest.fixture(autouse=True)
def _unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    trees.recorded(monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.jaffe(tmp_path_factory.mktemp("source") / "jaffe", side=16)


def prepared(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    keys = {"dataset.name": "jaffe", "dataset.source": str(source), "dataset.imbalance": 1, "dataset.image_size": 16}
    keys |= {"split.folds": 5, "replicates": [0, 1, 2, 3, 4]}
    trees.study(folder, keys | {f"split.{key}": value for key, value in settings.items()})
    monkeypatch.chdir(folder)
    fetch.main()
    split.main()


def names(folder: Path, part: str = "") -> list[str]:
    with (folder / "manifest.csv").open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file) if row.get("split", "") == part]


@pytest.mark.parametrize("by", ["image", "subject"])
def test_every_image_is_tested_once_and_trained_on_in_no_fold_that_tests_it(
    by: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path / "study", source, monkeypatch, folds_by=by, val_fraction=0.15)
    tested: list[str] = []
    for fold in range(5):
        fit, test = Path(f"data/fit/{fold}"), Path(f"data/test/{fold}")
        parts = [names(test), names(fit, "train"), names(fit, "val")]
        assert sorted(name for part in parts for name in part) == sorted(path.stem for path in source.glob("*.tiff"))
        tested += parts[0]
        for part, prefix, folder in zip(parts, ("", "train_", "val_"), (test, fit, fit), strict=True):
            assert np.load(folder / f"{prefix}images.npy").shape == (len(part), 16, 16, 1)
            assert set(np.load(folder / f"{prefix}labels.npy")) == set(range(7))
        people = [{name.split(".")[0] for name in part} for part in parts]
        if by == "subject":
            assert not people[0] & (people[1] | people[2])
            assert not people[1] & people[2]
            assert [len(each) for each in people] == [2, 7, 1]
        else:
            assert people[0] == people[1] == set(trees.SUBJECTS)
            assert abs(len(parts[0]) - 213 / 5) < 2
    assert len(tested) == len(set(tested)) == 213
    report = json.loads(Path("reports/data.json").read_text())
    assert report["cross_validation"] == {"folds": 5, "by": by}
    digests = {json.loads(Path(f"data/fit/{fold}/info.json").read_text())["digest"] for fold in range(5)}
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"folds": 40}, r"split\.folds: 40 folds, but a class has 29 images; choose fewer"),
        (
            {"folds": 8, "folds_by": "subject", "val_fraction": 0.1},
            r"split\.folds: 8 folds by subject and split\.val_fraction 0\.1 need 12 subjects, but there are 10",
        ),
    ],
    ids=str,
)
def test_more_folds_than_there_are_images_or_people_are_refused(
    settings: dict, fault: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageError, match=fault):
        prepared(tmp_path / "study", source, monkeypatch, **settings)


def test_subjects_that_nobody_names_and_official_test_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trees.study(tmp_path / "digits", {"split.folds": 3, "split.folds_by": "subject"})
    monkeypatch.chdir(folder)
    fetch.main()
    with pytest.raises(StageError, match=r"split\.folds_by: this data set does not say who is in its images"):
        split.main()
    faces = trees.rafdb_folders(tmp_path / "faces", train=3, test=1, side=8)
    trees.study(folder, {"split.folds": 3, "dataset.name": "rafdb", "dataset.source": str(faces)})
    fetch.main()
    with pytest.raises(StageError, match=r"split\.folds: this data set has an official test split; choose 0"):
        split.main()


def test_replicates_are_folds(tmp_path: Path) -> None:
    for settings, fault in (
        ({"split.folds": 2}, r"replicates: 2 is no fold; split\.folds gives 0 to 1"),
        ({"split.folds": 1}, r"split\.folds: 1 leaves nothing to train on"),
    ):
        path = trees.study(tmp_path, settings) / "params.yaml"
        with pytest.raises(StageError, match=fault):
            load_params(path)
