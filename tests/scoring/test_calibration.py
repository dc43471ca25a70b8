"""Probabilities that can be believed are said to be so, others are not, and the surest answers come first."""

import numpy as np
import pytest
import sklearn.calibration
import torch
from numpy.testing import assert_allclose

from pipeline.report.sections import calibration
from pipeline.scoring.calibration import (
    TEMPERATURES,
    believed,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    selective_accuracy,
)


def test_the_error_of_perfectly_calibrated_predictions_tends_to_0() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for images in (1_000, 100_000):
        confidence = rng.uniform(0.1, 1, images)
        errors.append(calibration_error(confidence, rng.random(images) < confidence))
    assert errors[1] < 0.006
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.6)  # as one over the root of the images


@pytest.mark.parametrize(("confidence", "share", "error"), [(1.0, 0.5, 0.5), (1.0, 1.0, 0.0), (0.25, 0.75, 0.5)])
def test_the_error_of_one_confidence_is_its_gap_to_the_accuracy(confidence: float, share: float, error: float) -> None:
    right = np.arange(40) < 40 * share
    assert calibration_error(np.full(40, confidence), right) == pytest.approx(error)


def test_reliability_is_scikit_learns_curve() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.beta(5, 2, 3000)
    right = rng.random(3000) < confidence**1.5
    sure, accuracy, share = reliability(confidence, right, bins=10)
    truth, mean = sklearn.calibration.calibration_curve(right, confidence, n_bins=10)
    known = share > 0
    assert_allclose(sure[known], mean)
    assert_allclose(accuracy[known], truth)
    assert share.sum() == pytest.approx(1)
    assert np.isnan(sure[~known]).all()


def test_a_bin_holds_its_upper_edge() -> None:
    confidence = np.array([1 / 15, 0.1, 2 / 15, 1.0])
    assert_allclose(reliability(confidence, np.ones(4, dtype=bool))[2][[0, 1, 14]], [0.25, 0.5, 0.25])


def test_selective_accuracy_is_that_of_the_surest_images() -> None:
    confidence = np.array([0.5, 0.9, 0.7, 0.99, 0.6])
    right = np.array([False, True, False, True, True])
    assert_allclose(selective_accuracy(confidence, right, [0.2, 0.4, 0.6, 0.8, 1.0]), [1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert selective_accuracy(confidence, right) == pytest.approx(0.75)  # of four images, as 80% are


def test_equally_sure_images_come_in_no_order() -> None:
    sure = np.full(10, 0.9)
    first, last = np.arange(10) < 5, np.arange(10) >= 5
    assert selective_accuracy(sure, first, 0.3) == selective_accuracy(sure, last, 0.3) == pytest.approx(0.5)


def test_probabilities_of_a_training_that_diverged_are_undefined() -> None:
    confidence, right = np.array([0.5, np.nan]), np.array([True, False])
    assert np.isnan(calibration_error(confidence, right))
    assert np.isnan(selective_accuracy(confidence, right, [0.5, 1])).all()
    bins = reliability(confidence, right)
    curves = np.full((1, 100), np.nan)
    calibration.reliability_figure({"a": [bins]})
    calibration.selective_prediction_figure(np.arange(1, 101) / 100, {"a": curves})


def test_calibration_figures_have_a_panel_for_each_model_of_one_scale() -> None:
    rng = np.random.default_rng(2)
    bins, curves = {}, {}
    for model in (f"m{index}" for index in range(15)):
        runs = [(rng.beta(5, 1, 200), rng.random(200) < 0.8) for _ in range(2)]
        bins[model] = [reliability(*run) for run in runs]
        curves[model] = np.array([selective_accuracy(*run, [0.1, 0.5, 1]) for run in runs])
    for figure in (
        calibration.reliability_figure(bins),
        calibration.selective_prediction_figure(np.array([0.1, 0.5, 1]), curves),
    ):
        panels = [panel for panel in figure.axes if panel.get_visible()]
        assert [panel.get_title(loc="left") for panel in panels] == list(bins)
        assert {panel.get_ylim() for panel in panels} == {panels[0].get_ylim()}
        assert max(figure.get_size_inches()) < 16


# Temperature


def logits_of(images: int, classes: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at `temperature` is the distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return logits * temperature, (shares.cumsum(1) > rng.random((images, 1))).argmax(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature: float) -> None:
    assert fit_temperature(*logits_of(20_000, 5, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_log_loss() -> None:
    logits, labels = logits_of(500, 4, 2.0)
    best = fit_temperature(logits, labels)
    around = [log_loss(logits, labels, best * factor) for factor in (0.9, 0.99, 1.01, 1.1)]
    assert log_loss(logits, labels, best) < min(around)


def test_log_loss_is_torchs_cross_entropy() -> None:
    logits, labels = logits_of(100, 4, 2.0)
    oracle = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / 1.7, torch.from_numpy(labels))
    assert log_loss(logits, labels, 1.7) == pytest.approx(oracle.item())


def test_a_temperature_mends_overconfidence_on_images_that_it_was_not_fitted_on() -> None:
    found = believed(logits_of(4000, 5, 3.0, seed=1), *logits_of(4000, 5, 3.0, seed=2))
    raw, scaled = found["calibration_error"], found["calibration_error_scaled"]
    assert raw is not None
    assert scaled is not None
    assert raw > 0.1
    assert scaled < 0.03
    assert found["log_loss_scaled"] < found["log_loss"]  # type: ignore[operator]


def test_a_model_that_is_always_right_gets_the_least_temperature_and_one_that_diverged_none() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 2
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(TEMPERATURES[0], rel=0.1)
    logits[0] = np.nan
    labels = np.array([0, 1, 2, 0])
    assert set(believed((logits, labels), logits, labels).values()) == {None}


def test_without_validation_images_there_is_no_temperature_and_the_raw_numbers_stand() -> None:
    validation, (logits, labels) = logits_of(4000, 5, 3.0, seed=1), logits_of(4000, 5, 3.0, seed=2)
    complete, found = believed(validation, logits, labels), believed(None, logits, labels)
    raw = {"log_loss", "calibration_error"}
    assert {name: found[name] for name in raw} == {name: complete[name] for name in raw}
    assert {name for name, value in found.items() if value is None} == complete.keys() - raw
