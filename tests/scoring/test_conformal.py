"""Conformal sets are those of Romano et al. 2020, and hold labels as often as they promise, whatever the network is."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.scoring.conformal import PROMISED, conformal_sets, covered, reached, threshold

Floats = npt.NDArray[np.float64]


def paper_set(shares: Floats, u: float, tau: float) -> set[int]:
    """S(x, u; pi, tau), equations 3 to 5 of arXiv:2006.02544."""
    order = np.argsort(-shares)
    total = shares[order].cumsum()
    last = int(np.flatnonzero(total >= tau)[0])  # L - 1, counted from 0
    surplus = (total[last] - tau) / shares[order[last]]  # V
    return set(order[: last if u <= surplus else last + 1].tolist())


def test_a_class_is_in_the_papers_set_from_its_threshold_on() -> None:
    rng = np.random.default_rng(0)
    shares, u = rng.dirichlet(np.ones(5), 40), rng.random(40)
    found = reached(shares, u)
    for row in range(40):
        for tau in rng.uniform(0.01, 0.99, 20):
            assert set(np.flatnonzero(found[row] < tau).tolist()) == paper_set(shares[row], u[row], tau)


def drawn(images: int, rng: np.random.Generator, sure: float = 1.0) -> tuple[Floats, npt.NDArray]:
    """Logits of a network that is too sure of itself, and labels."""
    logits = rng.normal(0, 2, (images, 6))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return sure * logits, (shares.cumsum(1) > rng.random((images, 1))).argmax(1)


@pytest.mark.parametrize(("images", "promised"), [(19, 0.95), (45, 0.95), (50, 0.9)])
def test_labels_are_held_exactly_as_often_as_promised(images: int, promised: float) -> None:
    """Of so many validation images and one more, exactly ceil((n + 1) promised) / (n + 1)."""
    rng = np.random.default_rng(1)
    studies = 10_000
    logits, labels = drawn(studies * (images + 1), rng, sure=3.0)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = reached(shares, rng.random(len(labels)))[np.arange(len(labels)), labels].reshape(studies, images + 1)
    rank = math.ceil((images + 1) * promised)
    held = scores[:, -1] <= np.partition(scores[:, :-1], rank - 1, axis=1)[:, rank - 1]
    assert held.mean() == pytest.approx(rank / (images + 1), abs=4 * math.sqrt(0.05 * 0.95 / studies))
    assert threshold(scores[0, :-1], promised) == np.sort(scores[0, :-1])[rank - 1]


def test_the_sets_of_test_images_keep_the_promise_and_are_larger_where_the_network_knows_less() -> None:
    rng = np.random.default_rng(2)
    known, asked = drawn(2000, rng), drawn(20_000, rng)
    found = covered(known, *asked, rng)
    assert found["set_coverage"] == pytest.approx(PROMISED, abs=0.015)
    assert found["set_size"] is not None
    blind = covered((0 * known[0], known[1]), 0 * asked[0], asked[1], rng)
    assert blind["set_coverage"] == pytest.approx(PROMISED, abs=0.015)
    assert blind["set_size"] == pytest.approx(6 * PROMISED, abs=0.1)
    assert 1 < found["set_size"] < 4


def test_too_few_images_promise_nothing_but_all_classes() -> None:
    rng = np.random.default_rng(3)
    known, (logits, labels) = drawn(18, rng), drawn(10, rng)
    assert threshold(np.arange(18.0)) == math.inf
    assert covered(known, logits, labels, rng) == {"set_coverage": 1.0, "set_size": 6.0}


def test_a_set_has_one_class_at_least() -> None:
    sets = conformal_sets(np.array([[0.9, 0.1], [0.2, 0.8]]), np.zeros(2), reach=0.5)
    assert sets.tolist() == [[True, False], [False, True]]


def test_without_validation_images_and_of_what_diverged_there_are_no_sets() -> None:
    rng = np.random.default_rng(4)
    logits, labels = drawn(30, rng)
    nothing = {"set_coverage": None, "set_size": None}
    assert covered(None, logits, labels, rng) == nothing
    assert covered((logits, labels), logits * np.nan, labels, rng) == nothing
