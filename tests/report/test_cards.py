"""The model cards: what they must say of every model, and of networks that look at faces."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.params.read import load_params
from pipeline.report import cards, results
from tests import fake_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("study"), models=("cnn",), replicates=(0, 1), epochs=3)


def card(made: Path, monkeypatch: pytest.MonkeyPatch, initialisation: str = "from scratch", **changes: Any) -> str:
    """The card of the model, of a study that is called x and has some `changes` in what is said of its images."""
    monkeypatch.chdir(made)
    found = results.read(load_params())
    found = replace(found, study=changes.pop("study", "x"), data=replace(found.data, **{"homepage": "", **changes}))
    evaluations = tuple(replace(each, initialisation=initialisation) for each in found.first.evaluations)
    return cards.card(replace(found.first, evaluations=evaluations), found)


def test_a_card_has_scores_with_interval_and_n_weakest_classes_data_cost_and_licence(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = card(made, monkeypatch, licence="CC BY 4.0")
    evaluations = [json.loads((made / f"reports/evaluations/cnn-{n}.json").read_text()) for n in (0, 1)]
    mean = sum(each["scores"]["macro_f1"] for each in evaluations) / 2
    assert f"| macro f1 | {mean:.4f} |" in text
    assert "95% intervals over n = 2 replicates and test images" in text
    recalls = {
        rows[0]["class"]: (rows[0]["recall"] + rows[1]["recall"]) / 2
        for rows in zip(*(e["classes"] for e in evaluations), strict=True)
    }
    weakest = min(recalls, key=lambda name: recalls[name])
    assert f"lowest first: {weakest} {recalls[weakest]:.1%}" in text
    assert "Images: CC BY 4.0" in text
    assert "Energy was not measured" in text
    assert evaluations[0]["machine"]["processor"] in text
    assert "Scans of digits from 13 writers." in text
    assert "emotion" not in text


def test_a_network_for_expressions_says_what_cannot_be_read_from_a_face(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = card(made, monkeypatch, expressions=True)
    assert "It does not recognise emotions" in text
    assert "Do not use it to judge a person" in text


def test_pretrained_weights_have_a_licence_of_their_own(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card(made, monkeypatch, initialisation="timm resnet18.a1_in1k")
    assert "begun from timm resnet18.a1\\_in1k; its licence" in text
    assert "ImageNet's images" in text


def test_names_in_a_card_are_text(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card(made, monkeypatch, study="<b>a_b", title="[x](http://y)", variant="JPEG copy")
    assert r"of study \<b>a\_b" in text
    assert r"[x\](http\://y) (JPEG copy)" in text
