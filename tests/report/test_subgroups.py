"""The report has a section on subgroups where the data set says which test images are of which, and only there."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.params.read import load_params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import cards, page, results
from pipeline.report.section import Section
from pipeline.report.sections import subgroups
from pipeline.report.words import few
from tests import fake_study

MODELS = ("cnn", "vit")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("subgroups"), models=MODELS, epochs=2)


def section(study: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Section | None, str]:
    """What is found, and how it reads."""
    monkeypatch.chdir(study)
    found = results.read(load_params())
    made = subgroups.section(found)
    return made, " ".join(page.text(page.templates(), "subgroups", made, found, {}).split()) if made else ""


def test_a_study_that_knows_no_attributes_has_no_section(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert section(study, monkeypatch)[0] is None


def test_scores_by_value_and_the_clearest_gap_fold_away_below_a_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = np.array([Predictions.read(predictions_path(f"vit-{number}", study)).right for number in range(3)])
    easy = right.sum(0) >= 2  # (N,), as vit finds them; of cnn it says little
    rare = np.arange(360) < 10
    light = np.where(rare, "dusk", np.where(easy, "day", "<night>"))
    fake_study.write_attributes(study, {"light": light.tolist(), "camera": ["a", "b"] * 179 + ["", ""]})
    made, text = section(study, monkeypatch)
    assert made is not None
    scores, gaps = made.tables
    assert made.words["sentence"] == (
        "Gaps in accuracy that hold, corrected for how many a model has: vit, day over <night> (light)."
    )
    assert "corrected for the 2 gaps of a model (Bonferroni)" in gaps.caption, "dusk has too few images for one"
    assert "Not known: camera of 2 images." in scores.caption
    of_vit = scores.frame.query("model == 'vit' and attribute == 'light'").set_index("value")
    assert of_vit.loc["dusk", "images"] == 10
    assert of_vit.loc["day", "accuracy"] == pytest.approx(right[:, light == "day"].mean())
    assert text.index("vit, day over &lt;night&gt; (light)") < text.index("<details> <summary>By light and camera")
    assert "<night>" not in text


def test_where_no_gap_holds_or_none_is_told_the_sentence_says_so(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_study.write_attributes(study, {"camera": ["a", "b"] * 180})
    made, text = section(study, monkeypatch)
    assert made is not None
    assert [table.name for table in made.tables] == ["subgroups", "gaps"]
    assert "corrected for the 1 gap of a model" in made.tables[1].caption
    assert "No gap in accuracy between two values of an attribute holds, corrected for how many a model has" in text
    assert "with more replicates or test images one might." in text
    fake_study.write_attributes(study, {"camera": ["a"] * 10 + ["b"] * 350})
    made, text = section(study, monkeypatch)
    assert made is not None
    assert [table.name for table in made.tables] == ["subgroups"]
    assert "No attribute has two values of 20 test images or more each, so that no gap is told." in text


def test_of_many_gaps_the_first_are_named() -> None:
    assert few(["a", "b", "c"]) == ["a", "b", "c"]
    assert few(["a", "b", "c", "d", "e"]) == ["a", "b", "3 more"]


def test_a_card_of_faces_says_what_is_known_of_groups_of_people(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    fake_study.write_attributes(study, {"gender": ["female", "male"] * 180, "age": ["4-19", ""] * 180})
    found = results.read(load_params())
    for known, said in (
        (found.data.attributes, 'and this study scored gender, age alone ("Subgroups" in the report)'),
        ([], "measured none of that: the data name no age, skin tone or origin"),
    ):
        faces = dataclasses.replace(found, data=dataclasses.replace(found.data, expressions=True, attributes=known))
        assert said in " ".join(cards.card(found.first, faces).split())
