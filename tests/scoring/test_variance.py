"""Parts of a variance: those that were planted are found, and their intervals hold them."""

import numpy as np
import pytest
from scipy.stats import f_oneway

from pipeline.scoring.variance import divided, part

SEEDS, SPLIT, IMAGES = 0.3, 1.0, 0.5  # variances


def planted(
    rng: np.random.Generator, studies: int, split: np.ndarray, redrawn: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (Q, R), the same over resamples (Q, R, 400), with 200 degrees of freedom; who shares test images."""
    places = split if redrawn else np.zeros_like(split)
    same = places[:, None] == places
    images = rng.normal(0, IMAGES**0.5, (studies, places.max() + 1))[:, places]
    scores = rng.normal(0, SEEDS**0.5, (studies, len(split))) + images
    scores += rng.normal(0, SPLIT**0.5, (studies, split.max() + 1))[:, split]
    known = IMAGES * rng.chisquare(200, studies) / 200
    drawn = rng.normal(0, 1, (studies, places.max() + 1, 400))
    drawn -= drawn.mean(-1, keepdims=True)
    whitened = np.linalg.inv(np.linalg.cholesky(drawn @ np.swapaxes(drawn, 1, 2) / 399)) @ drawn
    return scores, (known[:, None, None] ** 0.5 * whitened)[:, places], same


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("split", [np.arange(24) % 8, np.arange(23) % 8])
def test_planted_parts_are_found_and_lie_in_their_intervals(redrawn: bool, split: np.ndarray) -> None:
    """400 studies of 8 splits with 3 seeds each."""
    scores, samples, same = planted(np.random.default_rng(0), 400, split, redrawn)
    found = divided(scores, samples, np.full(400, 200.0), split, same)
    for name, truth in (("seeds", SEEDS), ("split", SPLIT), ("images", IMAGES)):
        each = [getattr(variance, name) for variance in found]
        assert np.mean([one.value for one in each]) == pytest.approx(truth, rel=0.1)
        assert np.mean([one.low <= truth <= one.high for one in each]) > 0.92, name
        assert all(one.low <= one.value <= one.high for one in each)
    assert all(variance.together is None for variance in found)


@pytest.mark.parametrize("redrawn", [False, True])
def test_with_a_split_for_each_replicate_seeds_and_splits_are_one_part(redrawn: bool) -> None:
    split = np.arange(10)
    scores, samples, same = planted(np.random.default_rng(1), 400, split, redrawn)
    found = divided(scores, samples, np.full(400, 200.0), split, same)
    assert np.mean([each.together.value for each in found if each.together]) == pytest.approx(SEEDS + SPLIT, rel=0.1)
    assert all(each.seeds is None and each.split is None for each in found)


def test_what_was_not_varied_has_no_part() -> None:
    split = np.zeros(5, dtype=int)
    scores, samples, same = planted(np.random.default_rng(2), 400, split, False)
    found = divided(scores, samples, np.full(400, 200.0), split, same)
    assert np.mean([each.seeds.value for each in found if each.seeds]) == pytest.approx(SEEDS, rel=0.1)
    assert all(each.split is None and each.together is None for each in found)
    alone = divided(scores[:, :1], samples[:, :1], np.full(400, 200.0), split[:1], same[:1, :1])
    assert all(each.seeds is None and each.images.value > 0 for each in alone)


def test_one_mean_square_has_the_interval_of_chi_squared() -> None:
    """s^2 = 2 with 4 degrees of freedom: 8 / 11.1433 to 8 / 0.484419."""
    found = part((1.0, 2.0, 4.0))
    assert (found.value, found.low, found.high) == pytest.approx((2, 0.71792, 16.5146), rel=1e-4)


def test_a_part_is_not_below_0() -> None:
    assert part((1.0, 1.0, 5.0), (-1.0, 3.0, 5.0)).value == part((1.0, 1.0, 5.0), (-1.0, 3.0, 5.0)).low == 0


def test_parts_are_those_that_scipys_analysis_of_variance_gives() -> None:
    """Its F is MSB / MSW: a split's part is (F - 1) / 3 of the seeds', of 3 replicates each."""
    split = np.arange(24) % 8
    scores, samples, same = planted(np.random.default_rng(3), 1, split, False)
    found = divided(scores, samples, np.array([200.0]), split, same)[0]
    groups = [scores[0][split == number] for number in range(8)]
    assert found.seeds is not None
    assert found.split is not None
    assert found.seeds.value == pytest.approx(np.mean([np.var(each, ddof=1) for each in groups]))
    assert found.split.value == pytest.approx(found.seeds.value * (f_oneway(*groups).statistic - 1) / 3)
