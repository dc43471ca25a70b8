"""The report scores whole probabilities, says what sets of classes hold, and what was not measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from pipeline.params.read import load_params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import results
from pipeline.report.page import templates
from pipeline.report.section import Section
from pipeline.report.sections import probabilities
from tests import fake_study


def section(study: Path, monkeypatch: pytest.MonkeyPatch) -> Section:
    monkeypatch.chdir(study)
    found = probabilities.section(results.read(load_params()))
    tables = {table.name: table for table in found.tables}
    template = templates().get_template("sections/probabilities.html")
    html = template.render(found=results.read(load_params()), tables=tables, **found.words)
    assert html.count("<details>") == 1
    return found


def calibrated(study: Path, **values: float | None) -> None:
    for path in (study / "reports/evaluations").glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"calibration": content.get("calibration", {}) | values}))


def test_the_scores_are_those_of_the_kept_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = section(fake_study.write(tmp_path, models=("cnn", "vit"), replicates=(0, 1)), monkeypatch)
    table, by_class = found.tables
    for row in table.frame.itertuples():
        each = [Predictions.read(predictions_path(f"{row.model}-{replicate}", tmp_path)) for replicate in (0, 1)]
        shares = [answers.of_every_class / answers.of_every_class.sum(1, keepdims=True) for answers in each]
        actual = each[0].actual
        brier = np.mean([brier_score_loss(actual, share, scale_by_half=False) for share in shares])
        areas = [[roc_auc_score(actual == k, answers.of_every_class[:, k]) for k in range(10)] for answers in each]
        assert row.brier_score == pytest.approx(brier, abs=0.002)
        assert row.macro_auroc == pytest.approx(np.mean(areas))
        assert np.allclose(by_class.frame[row.model], np.mean(areas, axis=0))
        for name in ("brier_score", "risk_coverage_area", "macro_auroc"):
            assert getattr(row, f"{name}_low") < getattr(row, name) < getattr(row, f"{name}_high")
    assert [entry["model"] for entry in found.summary["probabilities"]] == ["cnn", "vit"]


def test_what_earlier_versions_did_not_measure_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1))
    assert section(study, monkeypatch).tables[0].cells[0][4:6] == ("not measured", "not measured")
    calibrated(study, set_coverage=0.95, set_size=1.25)
    found = section(study, monkeypatch)
    assert [cell.split()[0] for cell in found.tables[0].cells[0][4:6]] == ["0.9500", "1.2500"]
    assert found.words["held"] == "95.0%"
    calibrated(study, set_coverage=None, set_size=None)
    found = section(study, monkeypatch)
    assert found.tables[0].cells[0][4] == "–", "trained on the validation images"
    assert found.words["held"] == ""


def test_of_many_classes_only_what_is_kept_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(f"class {index}" for index in range(24))
    found = section(fake_study.write(tmp_path, models=("cnn",), replicates=(0,), classes=classes), monkeypatch)
    (table,) = found.tables
    brier, risk, area = table.cells[0][1:4]
    assert (brier, area) == ("–", "–")
    assert 0 < float(risk.split()[0]) < 1
    assert "probabilities of all classes, which are not kept" in table.caption


def test_folds_have_scores_without_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1))
    path = study / "reports/data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cross_validation": {"folds": 2, "by": "image"}}))
    (row,) = section(study, monkeypatch).tables[0].cells
    assert not any("[" in cell for cell in row[1:4])
    assert all(float(cell) > 0 for cell in row[1:4])
    assert row[-1] == "2", "n is how many were trained, though their images are told of together"
