"""Replicates together are what a soft vote says, and their gain is that of the images which they put right."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import bootstrap
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier

from pipeline.scoring.ensemble import gain, predicted


class Says(DummyClassifier):
    """A classifier that answers with the probabilities that it was given."""

    def __init__(self, answers: np.ndarray | None = None) -> None:
        super().__init__()
        self.answers = answers

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        assert self.answers is not None
        return self.answers[images[:, 0]]


def test_together_they_answer_as_a_soft_vote_does() -> None:
    rng = np.random.default_rng(0)
    answers = rng.dirichlet(np.ones(4), size=(3, 200))  # (R, N, K)
    images = np.arange(200)[:, None]
    vote = VotingClassifier([(str(place), Says(each)) for place, each in enumerate(answers)], voting="soft")
    vote.fit(images, np.arange(200) % 4)
    assert_array_equal(predicted(list(answers)), vote.predict(images))


def test_the_sure_one_outvotes_two_that_are_not() -> None:
    unsure, sure = np.array([[0.55, 0.45]]), np.array([[0.05, 0.95]])
    assert_array_equal(predicted([unsure, unsure, sure]), [1])


def test_one_replicate_is_no_ensemble_and_neither_is_one_with_a_replicate_that_diverged() -> None:
    answers = np.array([[0.2, 0.8]])
    assert predicted([answers]) is None
    assert predicted([answers, answers * np.nan]) is None


def test_nothing_is_gained_by_asking_the_same_one_again() -> None:
    right = np.arange(50) % 3 > 0
    found = gain(right, np.stack([right, right]))
    assert found.mean == 0
    assert (found.low, found.high) == pytest.approx((-3.69 / 50, 3.69 / 50), rel=0.01), "none of 50 is not none of all"


def test_a_gain_on_few_images_is_held_in_95_of_100_studies() -> None:
    """One image in a hundred is put right by two replicates of three: a percentile bootstrap held it in 85."""
    rng, truth, held = np.random.default_rng(1), 0.01 / 3, 0
    for _ in range(200):
        alone = np.ones((3, 360), dtype=bool)
        alone[2] = rng.random(360) >= 0.01
        found = gain(np.ones(360, dtype=bool), alone)
        held += found.low <= truth <= found.high
    assert held >= 190


def test_the_gain_has_the_interval_of_scipys_bootstrap_over_images() -> None:
    rng = np.random.default_rng(0)
    alone = rng.random((3, 2000)) < 0.8
    together = alone.sum(0) >= 2
    found = gain(together, alone)
    each = together - alone.mean(0)  # (N,)
    wanted = bootstrap((each,), np.mean, method="percentile", n_resamples=2000, rng=rng).confidence_interval
    assert found.mean == pytest.approx(each.mean())
    assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high], abs=0.002)
