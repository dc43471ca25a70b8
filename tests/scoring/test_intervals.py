"""A 95% interval holds the truth in about 95 of 100 studies, and says what it was taken over."""

import numpy as np
import pytest
import scipy.stats

from pipeline.scoring.intervals import Interval, intervals, over_images, over_replicates, report_arrays
from pipeline.scoring.metrics import SCORES, confusion_matrix, scores

CONFUSION = np.array([[80, 6, 4], [9, 40, 1], [3, 2, 15]])


@pytest.mark.parametrize("values", [[0.9, 0.92], [0.31, 0.33, 0.36], [0.5, 0.51, 0.52, 0.49, 0.5]])
def test_interval_over_replicates_is_scipys_t_interval(values: list[float]) -> None:
    found = over_replicates(values)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((max(0, wanted.low), min(1, wanted.high)))
    assert (found.mean, found.n, found.basis) == (pytest.approx(np.mean(values)), len(values), "replicates")


def test_interval_over_replicates_holds_the_true_mean_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.6, 0.02, (4000, 3))
    held = [interval.low <= 0.6 <= interval.high for interval in map(over_replicates, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_interval_over_images_holds_the_true_score_in_about_95_of_100_test_sets() -> None:
    rng = np.random.default_rng(1)
    shares = CONFUSION / CONFUSION.sum()
    truth = scores(1e6 * shares)
    sets = rng.multinomial(500, shares.ravel(), size=400).reshape(-1, 3, 3)
    found = [over_images(confusion, resamples=400) for confusion in sets]
    for name in SCORES:
        held = np.mean([study[name].low <= truth[name] <= study[name].high for study in found])
        assert 0.91 <= held <= 0.98, name  # percentile intervals run a little short of 95%


def test_resampling_the_matrix_is_resampling_the_images() -> None:
    actual, predicted = (np.repeat(index.ravel(), CONFUSION.ravel()) for index in np.indices(CONFUSION.shape))
    rng = np.random.default_rng(2)
    drawn = [rng.integers(0, len(actual), len(actual)) for _ in range(4000)]
    values = [scores(confusion_matrix(actual[rows], predicted[rows], 3))["macro_f1"] for rows in drawn]
    found = over_images(CONFUSION, resamples=4000)["macro_f1"]
    assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.006)


def test_one_replicate_is_judged_over_test_images_and_several_over_replicates() -> None:
    one = intervals(CONFUSION[None])
    assert {(interval.n, interval.basis) for interval in one.values()} == {(1, "test images")}
    assert {name: interval.mean for name, interval in one.items()} == pytest.approx(scores(CONFUSION))
    two = intervals(np.stack([CONFUSION, CONFUSION.T]))
    assert {(interval.n, interval.basis) for interval in two.values()} == {(2, "replicates")}
    assert tuple(one) == tuple(two) == SCORES


def test_a_classs_recall_has_the_binomials_interval_over_its_images() -> None:
    found = over_images(CONFUSION, measure=report_arrays)
    assert {name: found[name] for name in SCORES} == over_images(CONFUSION)  # the same resamples
    exact = scipy.stats.binom(90, 80 / 90)
    recall = found["recall/0"]
    assert recall.mean == 80 / 90
    assert (recall.low, recall.high) == pytest.approx(np.array(exact.interval(0.95)) / 90, abs=0.012)


def test_what_a_replicate_lacks_has_no_interval_and_resamples_without_it_do_not_count() -> None:
    never = np.array([[5, 0], [3, 0]])  # the second class is never predicted
    rare = np.array([[40, 0], [1, 1]])  # many resamples lack it
    both = intervals(np.stack([never, rare]), measure=report_arrays)["precision/1"]
    assert np.isnan([both.mean, both.low, both.high]).all()
    assert both.n == 2
    alone = intervals(never[None], measure=report_arrays)
    assert np.isnan([alone["precision/1"].mean, alone["precision/1"].low]).all()
    assert (alone["recall/1"].mean, alone["recall/1"].high) == (0, 0)
    found = intervals(rare[None], measure=report_arrays)["recall/1"]
    assert (found.mean, found.low, found.high) == (0.5, 0, 1)


def test_costs_are_not_clipped_to_what_a_score_can_be() -> None:
    found = over_replicates([3.0, 3.2, 3.4], highest=np.inf)
    wanted = scipy.stats.ttest_1samp([3.0, 3.2, 3.4], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_limiting_cases() -> None:
    assert over_replicates([0.7, 0.7, 0.7]) == Interval(
        pytest.approx(0.7), pytest.approx(0.7), pytest.approx(0.7), 3, "replicates"
    )
    assert over_replicates([0.0, 1.0]) == Interval(0.5, 0.0, 1.0, 2, "replicates")  # clipped, not -5.9 to 6.9
    perfect = over_images(np.diag([5, 3]))["accuracy"]
    assert (perfect.mean, perfect.low, perfect.high) == (1, 1, 1)
    few, many = (over_images(CONFUSION * factor)["accuracy"] for factor in (1, 100))
    assert (many.high - many.low) * 10 == pytest.approx(few.high - few.low, rel=0.1)  # 1 / sqrt(images)
    binomial = scipy.stats.norm.interval(0.95, 135 / 160, np.sqrt(135 * 25 / 160**3))
    assert (few.low, few.high) == pytest.approx(binomial, abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    assert over_images(CONFUSION, seed=4) == over_images(CONFUSION, seed=4)
    assert over_images(CONFUSION, seed=4) != over_images(CONFUSION, seed=5)


def test_many_classes_are_resampled_in_little_memory_and_time() -> None:
    confusion = np.eye(300, dtype=np.int64) * 2
    confusion[:, 0] += 1
    found = over_images(confusion, resamples=100)["accuracy"]
    assert found.low < found.mean < found.high


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        intervals(np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="at least one image"):
        intervals(np.zeros((0, 3, 3)))
    with pytest.raises(ValueError, match="wanted two replicates or more, got 1"):
        over_replicates([0.5])
