"""An evaluation is a record that becomes JSON and is read from it, also as earlier versions wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StageError
from pipeline.records.diary import Diary
from pipeline.records.evaluation import Evaluation
from tests import repo, trees


def held(part: Any, whole: Any) -> bool:
    """Whether all that a JSON value says is said by another."""
    if isinstance(part, dict):
        return all(key in whole and held(value, whole[key]) for key, value in part.items())
    return part == whole


def test_it_is_written_as_it_was_read(trained_folder: Path, tmp_path: Path) -> None:
    for path in (trained_folder / "reports/evaluations").glob("*.json"):
        Evaluation.read(path).write(tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_committed_results_of_every_version_are_read_in_full(tmp_path: Path) -> None:
    names = sorted(name for name in repo.committed() if "reports/evaluations/" in name)
    assert names
    repo.export(tmp_path, *names)
    for name in names:
        assert held(json.loads((tmp_path / name).read_text()), Evaluation.read(tmp_path / name).plain()), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": None}, r"tiny-0\.json: cost: .*; run `dvc repro -f evaluate@tiny-0`"),
        ({"selected": {"epoch": "second"}}, r"tiny-0\.json: selected\.epoch: "),
        ({"images": None}, r"tiny-0\.json: images: "),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str, trained_folder: Path, tmp_path: Path) -> None:
    content = json.loads((trained_folder / "reports/evaluations/tiny-0.json").read_text())
    path = trees.put(tmp_path / "tiny-0.json", json.dumps({**content, **change}).encode())
    with pytest.raises(StageError, match=message):
        Evaluation.read(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not readable as JSON"), (b"[]", "the whole"), (None, "No such")]
)
def test_a_diary_that_cannot_be_read_is_trained_anew(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        trees.put(tmp_path / "cnn-0/run.json", content)
    with pytest.raises(StageError, match=rf"run\.json: .*{message}.*; run `dvc checkout .* or `dvc repro train@cnn-0`"):
        Diary.read(tmp_path / "cnn-0")


def test_a_diary_is_read_as_it_was_written(trained_folder: Path, tmp_path: Path) -> None:
    folder = trained_folder / "models/tiny-0"
    Diary.read(folder).write(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == (folder / "run.json").read_bytes()
