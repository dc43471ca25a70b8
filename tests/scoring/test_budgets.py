"""The expected best of so many trials: Dodge et al.'s formula, and a band that holds what it says."""

import itertools
import multiprocessing

import numpy as np
import pytest

from pipeline.scoring.budgets import EXACT, TuningCurve, orders, tuning_curve

SCORES = [0.3, 0.8, 0.5, 0.9]


def test_the_expected_best_is_the_mean_over_all_draws_with_replacement() -> None:
    found = tuning_curve(SCORES).best
    for budget in range(1, 5):
        every = [max(draw) for draw in itertools.product(SCORES, repeat=budget)]
        assert found[budget - 1] == pytest.approx(np.mean(every))


def test_a_trial_that_diverged_counts_as_the_worst() -> None:
    assert tuning_curve([None, 0.5]).best[0] == 0.25


def test_the_band_holds_the_true_curve_and_narrows_with_trials() -> None:
    """Scores of Beta(9, 1), whose best of k is of Beta(9 k, 1): in 95% of searches the whole curve lies within."""
    rng = np.random.default_rng(0)
    budgets = np.arange(1, 7)
    true = 9 * budgets / (9 * budgets + 1)
    held = []
    for _ in range(25):
        curve = tuning_curve(list(rng.beta(9, 1, size=6)))
        held.append(bool(np.all((curve.low <= true) & (true <= curve.high))))
    assert sum(held) >= 22
    few, many = (tuning_curve(list(rng.beta(9, 1, size=n))) for n in (6, EXACT + 50))
    assert many.high[0] - many.low[0] < 0.5 * (few.high[0] - few.low[0])


def test_the_order_of_models_is_told_where_it_changes() -> None:
    steady = TuningCurve(np.array([0.8, 0.82, 0.83]), np.zeros(3), np.ones(3))
    wild = TuningCurve(np.array([0.5, 0.81, 0.9]), np.zeros(3), np.ones(3))
    assert orders({"steady": steady, "wild": wild}) == {1: ["steady", "wild"], 3: ["wild", "steady"]}
    assert orders({"steady": steady, "low": TuningCurve(steady.best / 2, np.zeros(3), np.ones(3))}) == {
        1: ["steady", "low"]
    }


def test_no_process_is_started_for_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report draws it in a process that has imported torch: one that is forked there may never end."""
    monkeypatch.setattr(multiprocessing, "Pool", None)
    assert len(tuning_curve(SCORES).best) == 4
