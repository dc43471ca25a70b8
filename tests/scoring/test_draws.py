"""Replicates with splits of their own: test images laid side by side, and verdicts that hold over splits."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.scoring import pairs
from pipeline.scoring.draws import UNTESTED, Draws, side_by_side
from pipeline.scoring.metrics import confusion_matrix, scores
from pipeline.scoring.pairs import compare

Labels = npt.NDArray[np.int64]


def test_test_images_of_replicates_are_laid_side_by_side_by_their_names() -> None:
    images = np.array([["b", "a"], ["c", "b"]])
    labels, predicted = side_by_side(images, np.array([[1, 0], [2, 1]]), np.array([[[1, 2], [0, 0]]]))
    assert labels.tolist() == [0, 1, 2]
    assert predicted.tolist() == [[[2, 1, UNTESTED], [UNTESTED, 0, 0]]]


def test_scores_are_those_of_the_images_that_each_replicate_was_tested_on() -> None:
    rng = np.random.default_rng(0)
    actual, guesses = rng.integers(0, 3, 60), rng.integers(0, 3, (2, 4, 60))
    tested = rng.random((4, 60)) < 0.5
    guesses[:, ~tested] = UNTESTED
    found = pairs.resample(actual, guesses, 3, seed=0, resamples=2000)
    influences = pairs.influence(actual, guesses, 3)
    for name in pairs.SCORES:
        alone = [
            [scores(confusion_matrix(actual[t], g[t], 3))[name] for g, t in zip(m, tested, strict=True)]
            for m in guesses
        ]
        np.testing.assert_allclose(found[name][0], alone)
        assert influences[name].shape == (2, 60)
    spread = found["accuracy"][1][0, 0].std()  # of one replicate, by the binomial distribution
    share, number = found["accuracy"][0][0, 0], tested[0].sum()
    assert spread == pytest.approx((share * (1 - share) / number) ** 0.5, rel=0.1)


def test_the_mean_over_splits_varies_as_nadeau_and_bengio_say() -> None:
    """Of one replicate for each of 5 splits (1 / 5 + n2 / n1) s^2; replicates of one split count as their mean."""
    values = np.random.default_rng(0).normal(size=(3, 5))
    variance = values.var(1, ddof=1)
    np.testing.assert_allclose(Draws(np.arange(5), 0.25, True).variance(values), (1 / 5 + 0.25) * variance)
    twice = np.repeat(values, 2, axis=1)
    np.testing.assert_allclose(Draws(np.arange(10) // 2, 0.25, True).variance(twice), (1 / 5 + 0.25) * variance)


def test_seeds_of_one_split_are_told_from_the_splits() -> None:
    """Of two replicates for each of 4 splits, at 1 and -1 about their split's mean: 8 squares, 4 degrees of freedom."""
    values = np.repeat([[5.0, 7.0, 9.0, 4.0]], 2, axis=1) + np.tile([1.0, -1.0], 4)
    variance, freedom = Draws(np.arange(8) // 2, 0.25, True).over_seeds(values)
    assert (variance.tolist(), freedom.tolist()) == ([8 / 4 / 8], [4.0])


POOL, TESTED, FEATURES = 300, 60, 10


def equal_learners(rng: np.random.Generator, replicates: int, splits: int, test: bool) -> tuple[Labels, Labels, Draws]:
    """Two ridge classifiers on new images, each on features of its own that say as much: labels and predictions.

    Of 300 images 60 are for validation, and with `test` 60 for testing, else 60 others. A seed sees 70% of the rest.
    """

    def drawn(number: int) -> tuple[npt.NDArray[np.float64], Labels]:
        labels = rng.integers(0, 2, number)
        return rng.normal(size=(number, 2 * FEATURES)) + 0.35 * (2 * labels[:, None] - 1), labels

    inputs, labels = drawn(POOL)
    others, actual = drawn(TESTED)
    split = np.arange(replicates) % splits
    orders = [rng.permutation(POOL) for _ in range(splits)]
    guesses = np.empty((2, replicates, TESTED), dtype=np.int64)
    for replicate, order in enumerate(orders[number] for number in split):
        fitted = order[2 * TESTED if test else TESTED :]
        fitted = fitted[rng.random(len(fitted)) < 0.7]
        asked = inputs[order[:TESTED]] if test else others
        for model in range(2):
            own = slice(model * FEATURES, (model + 1) * FEATURES)
            seen = inputs[fitted, own]
            weights = np.linalg.solve(seen.T @ seen + np.eye(FEATURES), seen.T @ (2 * labels[fitted] - 1))
            guesses[model, replicate] = asked[:, own] @ weights > 0
    held_out = TESTED / (POOL - (2 if test else 1) * TESTED)
    if test:
        images = np.array([orders[number][:TESTED] for number in split])
        actual, guesses = side_by_side(images.astype(str), labels[images], guesses)
    return actual, guesses, Draws(split, held_out, test)


@pytest.mark.parametrize(("replicates", "splits", "test"), [(5, 5, False), (5, 5, True), (12, 4, True)])
def test_equal_learners_are_called_different_in_at_most_5_of_100_studies(
    replicates: int, splits: int, test: bool
) -> None:
    """Over splits of new images, 150 studies each; of 2,000 each 2.5, 1.4 and 1.5 in 100."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(150):
        actual, guesses, draws = equal_learners(rng, replicates, splits, test)
        found = compare(actual, {"a": guesses[0], "b": guesses[1]}, 2, resamples=200, draws=draws)[0]
        called += found.differences["accuracy"].verdict != "not distinguishable"
    assert called <= 0.05 * 150


def test_without_the_correction_they_are_called_different_far_more_often() -> None:
    """So that the test above can fail: the plain t test over 10 splits, in 200 studies."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(200):
        actual, guesses, _ = equal_learners(rng, 10, 10, True)
        right = np.where(guesses == UNTESTED, np.nan, guesses == actual)
        each = np.nanmean(right[0] - right[1], axis=1)
        called += abs(each.mean()) > 2.262 * each.std(ddof=1) / 10**0.5
    assert called > 0.12 * 200
