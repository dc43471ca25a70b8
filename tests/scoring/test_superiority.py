"""How often a model is above another, whether both are equal, and ranks: as libraries say, and in simulated studies."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from numpy.testing import assert_array_equal

from pipeline.scoring.pairs import Difference, compare, turned
from pipeline.scoring.superiority import all_equal, equal, probability, ranked, ranks
from tests.scoring.test_pairs import made_up


def difference(each: np.ndarray, shared: float = 0.0, freedom: float = 500.0, alone: float = 0.0) -> Difference:
    """What `pairs` says of differences (R,) of one seed each, with variances over test images."""
    replicates = len(each)
    seeds = (float(each.var(ddof=1)) / replicates, replicates - 1.0)
    bounds = ((seeds, (shared, freedom)), ((alone, freedom),))
    return Difference(float(each.mean()), 0, 0, 0, 0, 1, 1, "not distinguishable", "", "", bounds)


# how often


@pytest.mark.parametrize("replicates", [2, 3, 5, 10])
def test_where_images_have_no_part_the_interval_is_that_of_the_noncentral_t(replicates: int) -> None:
    each = np.random.default_rng(replicates).normal(0.01, 0.01, replicates)
    found = probability(difference(each), replicates)
    t = each.mean() / each.std(ddof=1) * math.sqrt(replicates)

    def end(share: float) -> float:
        solved = scipy.optimize.brentq(
            lambda shift: scipy.stats.nct.cdf(t, replicates - 1, shift) - share, t - 15, t + 15
        )
        return float(scipy.stats.norm.cdf(solved / math.sqrt(replicates)))

    assert (found.low, found.high) == pytest.approx((end(0.975), end(0.025)), abs=0.02)
    assert found.value == pytest.approx(scipy.stats.norm.cdf(each.mean() / each.std(ddof=1)))


@pytest.mark.parametrize(("replicates", "shared"), [(3, 0.0), (3, 0.01), (5, 0.005)])
def test_the_interval_holds_the_probability_in_95_of_100_studies(replicates: int, shared: float) -> None:
    """Seeds of deviation 0.01, images of `shared`; over 4,000 studies each by hand: 95.3, 97.1, 96.0 of 100."""
    rng = np.random.default_rng(replicates)
    studies, mean = 400, 0.01
    true = scipy.stats.norm.cdf(mean / math.hypot(0.01, shared))
    held = 0
    for _ in range(studies):
        each = rng.normal(mean, 0.01, replicates) + rng.normal(0, shared)
        found = probability(difference(each, shared**2), replicates, seed=int(rng.integers(2**31)))
        held += found.low <= true <= found.high
    assert held >= scipy.stats.binom.ppf(0.005, studies, 0.95)


def test_it_counts_trainings_that_score_above_on_new_images() -> None:
    """Two models, one training of each on images drawn anew, many times, beside what one study says of it."""
    rng = np.random.default_rng(0)
    wins = []
    for _ in range(300):
        actual, predicted = made_up(rng, (0.9, 0.88), 1, (0.05, 0.05), images=500)
        ours, theirs = ((predicted[name][0] == actual).sum() for name in ("m0", "m1"))
        wins.append((ours > theirs) + (ours == theirs) / 2)
    actual, predicted = made_up(rng, (0.9, 0.88), 30, (0.05, 0.05), images=500)
    pair = compare(actual, predicted, 4, resamples=500)[0]
    found = probability(pair.differences["accuracy"], 30)
    assert found.low <= np.mean(wins) <= found.high
    assert 0.5 < np.mean(wins) < 0.95
    other = probability(turned(pair).differences["accuracy"], 30)
    assert other.value == pytest.approx(1 - found.value)
    assert other.low == pytest.approx(1 - found.high, abs=0.02)


def test_with_one_replicate_it_is_of_these_weights_on_new_images() -> None:
    actual, predicted = made_up(np.random.default_rng(4), (0.9, 0.88), 1, (0.0, 0.0), images=800)
    each = compare(actual, predicted, 4)[0].differences["accuracy"]
    ((variance, _),) = each.bounds[0]
    z = each.value / math.sqrt(variance)
    found = probability(each, 1)
    assert found.value == pytest.approx(scipy.stats.norm.cdf(z))
    assert (found.low, found.high) == pytest.approx(scipy.stats.norm.cdf([z - 1.96, z + 1.96]), abs=0.03)


def test_seeds_that_agree_by_chance_are_no_certainty_and_models_that_predict_alike_are_above_half_the_time() -> None:
    agreeing = difference(np.array([0.01, 0.01, 0.01]), alone=0.01**2)
    found = probability(agreeing, 3)
    assert found.low < 0.5 < found.value < 0.8
    answers = np.tile(np.arange(40) % 4, (3, 1))
    alike = compare(answers[0], {"a": answers, "b": answers}, 4, resamples=50)[0].differences["accuracy"]
    found = probability(alike, 3)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.025, 0.975), abs=0.01), "on other images either may be above"


# practically equal


@pytest.mark.parametrize("mean", [-0.004, 0.0, 0.006, 0.02])
def test_two_one_sided_tests_are_the_larger_of_two_t_tests(mean: float) -> None:
    each = np.random.default_rng(5).normal(mean, 0.003, 5)
    below = scipy.stats.ttest_1samp(each, 0.01, alternative="less").pvalue
    above = scipy.stats.ttest_1samp(each, -0.01, alternative="greater").pvalue
    wanted = max(below, above) if abs(each.mean()) < 0.01 else 1.0
    assert equal(difference(each), 0.01) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("images", "margin"), [(50, 0.02), (100, 0.01), (360, 0.005)])
def test_models_that_answer_alike_on_few_images_are_not_called_equal(images: int, margin: float) -> None:
    """Models as far apart as the margin answer alike on all of them in (1 - margin)^images of studies."""
    answers = np.tile(np.arange(images) % 4, (3, 1))
    found = compare(answers[0], {"a": answers, "b": answers}, 4, resamples=50)[0].differences
    assert equal(found["accuracy"], margin) == pytest.approx((1 - margin) ** images, abs=0.1)
    assert equal(found["macro_f1"], margin) > 0.05
    many = np.tile(np.arange(10_000) % 4, (3, 1))
    alike = compare(many[0], {"a": many, "b": many}, 4, resamples=50)[0].differences["accuracy"]
    assert equal(alike, margin) < 0.001


def test_of_a_rare_class_that_both_have_right_little_is_known() -> None:
    labels = np.r_[np.zeros(5, int), 1 + np.arange(2000) % 3]
    answers = np.tile(labels, (3, 1))
    found = compare(labels, {"a": answers, "b": answers}, 4, resamples=50)[0].differences
    assert equal(found["accuracy"], 0.01) < 0.001
    assert equal(found["macro_f1"], 0.01) > 0.5, "5 images are a quarter of macro-F1"


def test_without_a_margin_nothing_is_equal_and_p_is_adjusted_over_pairs() -> None:
    each = [difference(np.random.default_rng(seed).normal(0, 0.002, 5)) for seed in range(3)]
    assert_array_equal(all_equal(each, 0.0), [1, 1, 1])
    alone = [equal(one, 0.01) for one in each]
    assert min(all_equal(each, 0.01)) == pytest.approx(3 * min(alone))


def test_of_models_a_margin_apart_at_most_5_in_100_are_called_equal_and_equal_ones_are_found() -> None:
    rng = np.random.default_rng(6)
    called = {0.05: 0, 0.0: 0}
    for gap in called:
        for _ in range(100):
            data = made_up(rng, (0.9, 0.9 - gap), 5, (0.03, 0.03), images=1000)
            each = compare(*data, 4, resamples=200)[0].differences["accuracy"]
            called[gap] += equal(each, 0.05) <= 0.05
    assert called[0.05] <= scipy.stats.binom.ppf(0.99, 100, 0.05)
    assert called[0.0] >= 90


# ranks


def test_ranks_are_those_of_the_mean_scores_and_clear_ones_are_certain() -> None:
    actual, predicted = made_up(np.random.default_rng(7), (0.6, 0.9, 0.75), 3, (0.02,) * 3, images=2000)
    found = ranked(actual, predicted, 4)
    assert {name: (each.value, each.low, each.high) for name, each in found.items()} == {
        "m0": (3, 3, 3),
        "m1": (1, 1, 1),
        "m2": (2, 2, 2),
    }
    same = ranked(actual, {"a": predicted["m0"], "b": predicted["m0"]}, 4)
    assert {(each.value, each.low, each.high) for each in same.values()} == {(1.5, 1.5, 1.5)}


@pytest.mark.parametrize("replicates", [1, 3])
def test_the_interval_holds_the_rank_in_95_of_100_studies(replicates: int) -> None:
    """Means 0.01 apart, seeds as far; of the middle model, whose rank is least sure."""
    rng = np.random.default_rng(replicates)
    studies, held = 400, 0
    for _ in range(studies):
        images = rng.normal(0, 0.005, (3, 1))
        seeds = rng.normal(0, 0.01 if replicates > 1 else 0, (3, replicates))
        scores = np.array([0.92, 0.91, 0.90])[:, None] + images + seeds
        samples = scores[..., None] + rng.normal(0, 0.005, (3, 1, 300))
        low, high = ranks(scores, samples, seed=int(rng.integers(2**31)))
        held += low[1] <= 2 <= high[1]
    assert held >= scipy.stats.binom.ppf(0.005, studies, 0.95)
