"""The report says what models make of corrupted test images, and whether verdicts hold on them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.records.corruptions import Corrupted, Panel, Variant
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import page, results
from pipeline.report.section import Section
from pipeline.report.sections import corruptions
from tests import fake_study

MODELS = ("cnn", "vit")
NAMES = {"fog": "weather", "shot_noise": "noise"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("corruptions"), models=MODELS)


def as_they_are(study: Path) -> dict[str, np.ndarray]:
    """What is right of the test images, (R, N) of each model."""
    return {
        name: np.array(
            [Predictions.read(predictions_path(f"{name}-{replicate}", study)).right for replicate in range(3)]
        )
        for name in MODELS
    }


def leave(study: Path, right: Mapping[str, np.ndarray]) -> None:
    """Records of models that have the same images (R, N) right, however these are corrupted."""
    (study / "reports/corruptions").mkdir(exist_ok=True)
    Panel([0, 1, 2], [1, 5], 0).write(study / "reports/corruptions/panel.json")
    for name, rows in right.items():
        for replicate, row in enumerate(rows):
            variants = [Variant.of(*each, severity, row) for each in NAMES.items() for severity in (1, 5)]
            record = Corrupted(name, replicate, "", 0, len(row), variants)
            record.write(study / f"reports/corruptions/{name}-{replicate}.json")


def section(study: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Section | None, str]:
    """What is found, and how it reads."""
    monkeypatch.chdir(study)
    found = results.read(load_params())
    made = corruptions.section(found)
    return made, " ".join(page.text(page.templates(), "corruptions", made, found, {}).split()) if made else ""


def test_corruptions_that_change_nothing_leave_scores_and_verdicts(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(study, as_they_are(study))
    made, text = section(study, monkeypatch)
    assert made is not None
    assert "On corrupted test images the verdict by accuracy is the same." in text
    rows = made.tables[0].frame.set_index("model")
    assert rows["corrupted"].tolist() == pytest.approx(rows["accuracy"].tolist())
    verdicts = made.tables[2].frame.iloc[0]
    assert verdicts["clean_value"] == verdicts["corrupted_value"]
    pair = results.read(load_params()).pairs[0]
    assert verdicts["clean_holm"] == pytest.approx(pair.differences["accuracy"].holm)  # as the report's own
    assert verdicts["clean_verdict"] == pair.differences["accuracy"].verdict


def test_a_verdict_that_does_not_hold_is_named_and_errors_are_set_beside_the_first_models(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = as_they_are(study)
    few = {"cnn": clean["cnn"] & (np.arange(360) % 4 == 0), "vit": clean["vit"]}
    leave(study, few)
    made, text = section(study, monkeypatch)
    assert made is not None
    said = (
        "0 of 1 verdicts by accuracy are the same; not cnn vs vit (not distinguishable as they are, worse corrupted: a"
    )
    assert f"{said} change of −0." in text
    assert "maybe none" not in text
    rows = made.tables[0].frame.set_index("model")
    assert rows["mce"].tolist() == pytest.approx([1, (1 - few["vit"].mean()) / (1 - few["cnn"].mean())])
    assert rows.loc["cnn", "mean_error"] == pytest.approx(1 - few["cnn"].mean())
    assert len(made.tables[1].frame) == 2 * 2 * 2  # models, corruptions, severities
    assert text.count("<td style=") == 2 * (2 + 2)  # corruptions and severities of both models


def test_a_reference_without_errors_makes_no_ratio(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(study, {"cnn": np.ones((3, 360), dtype=bool), "vit": as_they_are(study)["vit"]})
    made, _ = section(study, monkeypatch)
    assert made is not None
    assert [row[3] for row in made.tables[0].cells] == ["–", "–"]
    json.dumps(made.summary, allow_nan=False)


def test_nothing_is_said_where_nothing_was_asked(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(study, as_they_are(study))
    Panel([], [1, 5], 0).write(study / "reports/corruptions/panel.json")
    assert section(study, monkeypatch) == (None, "")


def test_records_of_other_variants_or_images_are_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(study, as_they_are(study))
    Panel([0, 1, 2], [1, 5], 7).write(study / "reports/corruptions/panel.json")
    with pytest.raises(StageError, match=r"cnn-0.json: of other variants than params.yaml asks for; run `dvc repro`"):
        section(study, monkeypatch)
    leave(study, as_they_are(study))
    path = study / "reports/corruptions/vit-1.json"
    dataclasses.replace(Corrupted.read(path), images=359).write(path)
    with pytest.raises(StageError, match=r"vit-1.json: of other weights or images than were evaluated"):
        section(study, monkeypatch)
