"""The explain stage picks the images that say something, and shows no image that may not be shown."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.stages import explain
from pipeline.tracking import runs
from pipeline.trained import overlay
from tests import small_study, trees

LOGGED: list[Path] = []


class Kept(small_study.Untracked):
    def artifact(self, path: Path, *_: object) -> None:
        LOGGED.append(path)


@pytest.fixture(autouse=True)
def _tracks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    LOGGED.clear()
    monkeypatch.setattr(runs, "report_run", lambda _: contextlib.nullcontext(Kept()))


@pytest.fixture(scope="module")
def explained(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained study, explained."""
    folder = shutil.copytree(trained_folder, tmp_path_factory.mktemp("explained") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "report_run", lambda _: contextlib.nullcontext(Kept()))
        explain.main()
    return folder


@pytest.fixture
def facts(explained: Path) -> dict:
    return json.loads((explained / explain.FACTS).read_text())


# which images


def test_images_with_most_answers_come_first_then_those_that_split_the_models() -> None:
    actual = np.array([0, 0, 0, 0])
    predicted = np.array([[0, 0, 1, 0], [0, 0, 2, 0], [0, 1, 0, 1], [0, 1, 0, 0]])  # (M, N)
    sure = np.full(predicted.shape, 0.9)
    assert explain.disagreements(actual, predicted, sure) == [2, 1, 3]
    assert explain.disagreements(actual, predicted[:1], sure[:1]) == []  # one model cannot disagree


def test_a_second_image_of_a_class_waits_for_the_first_of_every_other() -> None:
    actual = np.array([5, 5, 5, 7, 8])
    assert explain.spread_over_classes([0, 1, 2, 3, 4], actual, 4) == [0, 3, 4, 1]


def test_mistakes_are_the_surest_and_right_ones_those_of_the_least_sure_model() -> None:
    actual = np.array([0, 1, 2, 3, 4])
    predicted = np.array([[0, 1, 0, 0, 0], [0, 1, 2, 0, 4]])
    sure = np.array([[0.9, 0.6, 0.5, 0.99, -1.0], [0.3, 0.5, 0.9, 0.9, 0.9]])
    assert explain.sure_mistakes(actual, explain.Answers(predicted[0], sure[0])) == [3, 2, 4]
    assert explain.surely_right(actual, predicted, sure) == [1, 0]


# what the stage leaves


def test_every_image_shown_is_what_the_predictions_say_of_it(explained: Path, facts: dict) -> None:
    tables = {name: Predictions.read(predictions_path(f"{name}-0", explained)).frame() for name in METHODS}
    guesses = np.array([table["predicted"] for table in tables.values()])
    assert facts["disagreements"] == (guesses != guesses[0]).any(0).sum()
    assert facts["images"] == guesses.shape[1]
    assert facts["disagree"]
    for each in facts["disagree"]:
        assert len({answer["predicted"] for answer in each["answers"]}) > 1
        for answer in each["answers"]:
            row = tables[answer["model"]].iloc[each["image"]]
            assert (row["actual"], row["predicted"]) == (each["actual"], answer["predicted"])
            assert answer["probability"] == pytest.approx(row["confidence"], abs=1e-4)
    for model in facts["mistakes"]:
        assert 0 < len(model["images"]) <= explain.MISTAKES
        assert all(each["actual"] != each["predicted"] for each in model["images"])
        probabilities = [each["probability"] for each in model["images"]]
        assert probabilities == sorted(probabilities, reverse=True)


METHODS = {"tiny": "Grad-CAM", "vit": "attention rollout", "hybrid": "attention rollout"}


def test_each_family_is_explained_by_the_method_that_fits_it(facts: dict) -> None:
    assert {each["model"]: each["method"] for each in facts["models"]} == METHODS


def test_tiles_are_the_image_and_the_image_tinted(explained: Path, facts: dict) -> None:
    sheet = np.asarray(Image.open(explained / explain.PICTURE)).astype(int)
    columns, rows = facts["sheet"]
    assert sheet.shape == (rows * overlay.TILE, columns * overlay.TILE, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(explained)
        images = packed.read(explain.TEST / "0")
        for each in facts["disagree"]:
            found = tile(sheet, each["tile"])
            assert abs(found - overlay.picture(images, each["image"])).mean() < 6  # but for what JPEG loses
            for answer in each["answers"]:
                tinted = tile(sheet, answer["overlay"])
                assert (tinted[..., 0] - tinted[..., 2]).max() > 60  # somewhere hot


def tile(sheet: np.ndarray, place: list[int]) -> np.ndarray:
    column, row = (overlay.TILE * each for each in place)
    return sheet[row : row + overlay.TILE, column : column + overlay.TILE]


def test_images_that_may_not_be_passed_on_are_nowhere_in_the_picture(
    explained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(explained, tmp_path / "study")
    monkeypatch.chdir(folder)
    data = json.loads(explain.DATA.read_text())
    explain.DATA.write_text(json.dumps({**data, "shareable": False}))
    explain.main()
    before = explain.PICTURE.read_bytes()
    facts = json.loads(explain.FACTS.read_text())
    assert facts["shareable"] is False
    assert all(each["tile"] is None for each in facts["disagree"] + facts["right"])
    assert all(each["tile"] is None for model in facts["mistakes"] for each in model["images"])
    assert LOGGED == [explain.FACTS, explain.PICTURE]

    monkeypatch.setattr(overlay, "picture", lambda *_: 1 / 0)  # no image is so much as looked at
    explain.main()
    assert explain.PICTURE.read_bytes() == before  # and a rerun leaves the same bytes


def test_one_model_has_mistakes_but_no_disagreement(
    explained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(explained, tmp_path / "study")
    small_study.write(folder, {}, {"tiny": small_study.MODELS["tiny"]})
    monkeypatch.chdir(folder)
    explain.main()
    facts = json.loads(explain.FACTS.read_text())
    assert (facts["disagreements"], facts["disagree"]) == (0, [])
    assert [each["model"] for each in facts["mistakes"]] == ["tiny"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("others", "models/tiny-0: not the weights that reports/evaluations/tiny-0.json is of; run `dvc checkout"),
        ("lost", r"models/tiny-0/weights.safetensors: not found; run `dvc checkout models/tiny-0`"),
        (
            "damaged",
            r"reports/evaluations/tiny-0.json: .*; run `dvc repro -f evaluate@tiny-0`",
        ),
    ],
)
def test_only_the_weights_that_were_evaluated_are_looked_at(
    fault: str, said: str, explained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC compares the evaluations, not models/, which may hold more than params.yaml names."""
    folder = shutil.copytree(explained, tmp_path / "study")
    monkeypatch.chdir(folder)
    weights = folder / "models/tiny-0/weights.safetensors"
    if fault == "others":
        shutil.copy(folder / "models/tiny-1/weights.safetensors", weights)
    elif fault == "lost":
        weights.unlink()
    else:
        (folder / "reports/evaluations/tiny-0.json").write_text("[]")
    with pytest.raises(StageError, match=said):
        explain.main()


@pytest.mark.parametrize("fault", ["lost", "foreign", "other images"])
def test_predictions_that_are_missing_or_of_other_images_name_the_stage_to_run(
    fault: str, explained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(explained, tmp_path / "study")
    monkeypatch.chdir(folder)
    path = predictions_path("vit-0")
    if fault == "lost":
        path.unlink()
    elif fault == "foreign":
        trees.put(path, b"a,b\n1,2\n")
    else:
        trees.reverse_predictions(path)
    with pytest.raises(StageError, match=r"predictions/vit-0.parquet: not .*run `dvc repro predictions`"):
        explain.main()
