"""The report says what all replicates of a model score together, and that it costs as many times as much."""

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle

from pipeline.params.read import load_params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import results
from pipeline.report.section import Section
from pipeline.report.sections import ensemble
from pipeline.scoring.ensemble import predicted
from tests import fake_study, repo


def section(study: Path, monkeypatch: pytest.MonkeyPatch) -> Section | None:
    monkeypatch.chdir(study)
    return ensemble.section(results.read(load_params()))


def mean_probabilities(model: str, study: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of all three replicates, and the labels."""
    every = [Predictions.read(predictions_path(f"{model}-{replicate}", study)) for replicate in range(3)]
    return np.mean([each.probabilities for each in every], axis=0), every[0].actual


def test_a_model_has_the_scores_and_the_costs_of_all_replicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = section(fake_study.write(tmp_path, models=("cnn", "vit")), monkeypatch)
    assert found is not None
    for row in found.tables[0].frame.itertuples():
        answers, actual = mean_probabilities(row.model, tmp_path)
        cost = json.loads((tmp_path / f"reports/evaluations/{row.model}-0.json").read_text())["cost"]
        assert row.accuracy == pytest.approx((answers.argmax(1) == actual).mean())
        assert row.macro_f1 == pytest.approx(oracle.f1_score(actual, answers.argmax(1), average="macro"))
        assert row.gain == pytest.approx(row.accuracy - row.alone)
        assert row.accuracy_low < row.accuracy < row.accuracy_high
        assert (row.n, row.parameters, row.flops) == (3, 3 * cost["parameters"], 3 * cost["flops"])
        assert row.cpu_ms_per_image == pytest.approx(3 * cost["cpu_ms_per_image"], rel=0.1)
    assert [each["model"] for each in found.summary["together"]] == ["cnn", "vit"]


def test_one_replicate_and_folds_have_nobody_to_ask_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake_study.write(tmp_path, models=("cnn",), replicates=(0,))
    assert section(study, monkeypatch) is None
    study = fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1))
    path = study / "reports/data.json"
    folds = {"cross_validation": {"folds": 2, "by": "image"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | folds))
    assert section(study, monkeypatch) is None


@pytest.mark.parametrize(
    ("study", "model"), [(".", "vit"), pytest.param("studies/mnist_efficient", "cnn_7k", id="mnist_efficient")]
)
def test_the_committed_replicates_score_more_together_than_alone(study: str, model: str, tmp_path: Path) -> None:
    """0.8056 beside 0.7546, and 0.9921 beside 0.9871, when this was written."""
    folder = repo.export(tmp_path, f"{study}/reports/predictions") / study
    every = [Predictions.read(predictions_path(f"{model}-{replicate}", folder)) for replicate in range(3)]
    together = predicted([each.of_every_class for each in every])
    exact, actual = mean_probabilities(model, folder)
    alone = np.mean([each.right for each in every])
    assert (together == actual).mean() == pytest.approx((exact.argmax(1) == actual).mean(), abs=2e-4)
    assert (together == actual).mean() > alone + 0.001
