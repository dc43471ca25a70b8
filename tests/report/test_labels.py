"""The report sets scores on labels as given beside those without the refuted and those on corrected ones."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.records.labels import LabelCheck, Reviewed, Reviews, Suspect, Suspects
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import page, results
from pipeline.report.section import Section
from pipeline.report.sections import labels
from tests import fake_study

ROWS = (3, 40, 41, 200, 300)  # of the reviewed images


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("labels"), models=("cnn", "vit"))


def section(study: Path, check: LabelCheck, monkeypatch: pytest.MonkeyPatch) -> tuple[Section | None, str]:
    """What is found, and how it reads."""
    monkeypatch.chdir(study)
    check.write(study / "reports/labels.json")
    Image.new("RGB", (64, 64)).save(study / "reports/labels.jpg")
    found = results.read(load_params())
    made = labels.section(found)
    return made, page.text(page.templates(), "labels", made, found, study) if made else ""


def reviewed(study: Path) -> LabelCheck:
    """Five images that nobody would call as the data set does, but in one all agree upon another class."""
    table = Predictions.read(predictions_path("cnn-0", study)).frame()
    every = [
        Reviewed(each.image, each.actual, str((int(each.actual) + 1) % 10), 1, 2 + (place == 2), 1, 1 - (place == 2))
        for place, each in enumerate(table.iloc[list(ROWS)].itertuples())
    ]
    return LabelCheck(Reviews("https://somewhere", "", every), None)


def test_scores_are_given_on_three_kinds_of_labels(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = section(study, reviewed(study), monkeypatch)
    assert made is not None
    for row in made.tables[0].frame.itertuples():
        every = [Predictions.read(predictions_path(f"{row.model}-{replicate}", study)) for replicate in range(3)]
        actual = every[0].actual
        kept = np.setdiff1d(np.arange(len(actual)), ROWS)
        corrected = actual.copy()
        corrected[ROWS[2]] = (actual[ROWS[2]] + 1) % 10
        guesses = [each.predicted for each in every]
        assert row.errors == pytest.approx(np.mean([(guess != actual).sum() for guess in guesses]))
        of_these = [(guess[list(ROWS)] != actual[list(ROWS)]).sum() for guess in guesses]
        assert row.errors_on_refuted == pytest.approx(np.mean(of_these))
        for name, score in (("accuracy", oracle.accuracy_score), ("macro_f1", macro_f1)):
            assert getattr(row, name) == pytest.approx(np.mean([score(actual, guess) for guess in guesses]))
            unrefuted = np.mean([score(actual[kept], guess[kept]) for guess in guesses])
            assert getattr(row, f"{name}_unrefuted") == pytest.approx(unrefuted)
            assert getattr(row, f"{name}_corrected") == pytest.approx(np.mean([score(corrected, g) for g in guesses]))


def macro_f1(actual: np.ndarray, predicted: np.ndarray) -> float:
    return oracle.f1_score(actual, predicted, average="macro")


def test_the_page_says_how_many_labels_are_refuted_and_by_which_votes(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = section(study, reviewed(study), monkeypatch)
    said = " ".join(text.split())
    assert (
        "Of 5 test images with suspicious labels, annotators refuted the label of 5 and agreed on another for 1" in said
    )
    assert text.count('<tr><th scope="row">0') == len(ROWS)


def test_the_page_says_what_is_not_at_hand_and_nothing_of_reviews_where_nobody_was_asked(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Reviews("https://somewhere", "no connection; get it from there", [])
    _, text = section(study, LabelCheck(away, None), monkeypatch)
    assert "no connection; get it from there. Then <code>dvc repro -f labels</code>" in text
    _, text = section(study, LabelCheck(Reviews("", "", []), None), monkeypatch)
    assert "nnotators" not in text
    assert "trained on every image" in text


def test_reviews_of_images_that_were_not_tested_on_are_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = Reviewed("test/another.png", "3", "8", 1, 4, 0, 0)
    with pytest.raises(StageError, match=r"labels.json: of other test images than were tested on; run `dvc repro`"):
        section(study, LabelCheck(Reviews("https://somewhere", "", [foreign]), None), monkeypatch)


def test_suspects_are_shown_with_their_label_and_what_is_likelier(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suspect = Suspect("train/a<b>.png", "3", 0.01, "8", 0.98765, [0, 0])
    seen = Suspects(looked_at=1500, trainings=6, agreed=0.9512, suspected=40, shown=[suspect], sheet=[16, 1])
    _, text = section(study, LabelCheck(Reviews("", "", []), seen), monkeypatch)
    said = " ".join(text.split())
    assert "Of the labels of 1,500 validation images, 40 are likely wrong" in said
    assert "the 6 trainings that did not learn from them. Together they agree with 95.1% of the labels." in said
    assert "No label was changed" in said
    assert "<b>3</b>? 8 98.7%" in said
    assert "train/<wbr>a&lt;b&gt;.png" in said
    nothing = Suspects(looked_at=1500, trainings=1, agreed=1.0, suspected=0, shown=[], sheet=[16, 1])
    _, text = section(study, LabelCheck(Reviews("", "", []), nothing), monkeypatch)
    said = " ".join(text.split())
    assert "Of the labels of 1,500 validation images, none is likely wrong" in said
    assert "the training that did not learn from them." in said
    assert "<details" not in said
