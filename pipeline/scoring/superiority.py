"""More than a verdict of each pair: how often one model is above the other, whether both are practically equal; ranks.

Shapes: M models, R replicates, P pairs, B resamples.

*Probability of superiority*, P(A > B): how often a training of A scores above one of B with the same seed, both tested
on the same images, drawn anew (Bouthillier et al. 2021, arXiv:2103.03098, who call a difference meaningful where it is
significant and the interval of P reaches above 0.75). They count pairs of trainings, 29 or more, and draw these anew;
of three that says nothing, so that P is taken from `pairs` instead: single differences are normal around D with
variance s^2 (seeds, not below the luck with single images) + c (what seeds share of the test images), hence
P = Phi(D / sqrt(s^2 + c)). Its interval is a generalised one (Weerahandi 1993, doi:10.1080/01621459.1993.10476355): s^2
and c are drawn from their estimates by chi-squared of their degrees of freedom, D around its value by both. With c = 0
that is the exact interval by the noncentral t. With R = 1 it is of these weights, over test images.

*Practically equal* within a margin m: two one-sided tests (Schuirmann 1987, doi:10.1007/BF01068419) say that the
difference is above -m and below m, each with the spread of the pair's interval; p is the larger of both, Holm-adjusted
over pairs.

*Ranks* are those of mean scores over B resamples of the test images, each shifted by what seeds may do: the replicates'
deviations weighted at random (multiplier bootstrap), scaled so that every difference has Student's t of R - 1 degrees
of freedom; plain resamples of three replicates would be too sure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.scoring import pairs
from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats
from pipeline.scoring.pairs import Difference, Part

MEANINGFUL = 0.75  # Bouthillier et al.: the probability of superiority from which on a difference matters
DRAWS = 10_000  # for the interval of a probability
RESAMPLES = 1000  # for the interval of a rank, a whole number


@dataclass(frozen=True)
class Bounded:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


def probability(difference: Difference, replicates: int, seed: int = 0) -> Bounded:
    """P(A > B) of one training each, on as many test images; a tie counts half. See above.

    `difference` is of replicates with the same split: the parts of its variance are seeds and test images.
    """
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    varied, ((over_images, _),), *others = difference.bounds
    none = others[0][0][0] if others else 0.0  # of models that answer alike: they may differ on other images
    seeds, images = varied if replicates > 1 else ((0.0, 1.0), *varied)  # of the mean
    luck = max(over_images - images[0], 0.0)  # with single images: seeds that agree are no certainty
    drawn_seeds, drawn_images = np.maximum(_drawn(seeds, rng), luck), np.maximum(_drawn(images, rng), none)
    mean = difference.value + np.sqrt(drawn_seeds + drawn_images) * rng.standard_normal(DRAWS)
    drawn = ndtr(_ratio(mean, np.sqrt(replicates * drawn_seeds + drawn_images)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    one = np.array(math.sqrt(replicates * max(seeds[0], luck) + images[0]))
    return Bounded(float(ndtr(_ratio(np.array(difference.value), one))), float(low), float(high))


def _drawn(part: Part, rng: np.random.Generator) -> Floats:
    """What the variance (B,) may be that was estimated as this one."""
    variance, freedom = part
    return variance * freedom / rng.chisquare(freedom, DRAWS)


def _ratio(mean: Floats, deviation: Floats) -> Floats:
    """mean / deviation: 0 where both are, infinite where the deviation alone is."""
    far = np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
    return np.divide(mean, deviation, out=far, where=deviation > 0)


# practically equal


def equal(difference: Difference, margin: float) -> float:
    """p of the two one-sided tests that the difference is within -+ margin; 1 where its value is not.

    Never less than the chance that models as far apart as the margin answer alike on all of the test images.
    """
    inside = margin - abs(difference.value)  # to the nearer end, whose p is the larger
    if inside <= 0:
        return 1.0
    each = [pairs.p_values(np.array([inside]), _arrays(parts))[0] for parts in difference.bounds]
    alike = (1 - margin) ** (1 / difference.heaviest) if difference.heaviest and margin < 1 else 0.0
    return max(float(max(each)) / 2, alike)  # one side of two


def _arrays(parts: Sequence[Part]) -> pairs.Parts:
    return tuple((np.array([variance]), np.array([freedom])) for variance, freedom in parts)


def all_equal(differences: Sequence[Difference], margin: float) -> Floats:
    """`equal` of each pair (P,), Holm-adjusted; 1 where no margin is stated."""
    return pairs.holm([equal(each, margin) for each in differences])


# ranks


def ranks(scores: Floats, samples: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """The ends of each model's rank (M,), 1 the highest score, from scores (M, R) and resampled ones (M, R, B)."""
    from scipy.stats import rankdata

    drawn = rankdata(-(samples.mean(1) + _shifts(scores, samples.shape[-1], seed)), axis=0)  # (M, B)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1, method="nearest")
    return low, high


def _shifts(scores: Floats, resamples: int, seed: int) -> Floats:
    """What the seeds of scores (M, R) may add to the means, (M, B)."""
    replicates = scores.shape[1]
    if replicates == 1:
        return np.zeros((len(scores), resamples))
    rng = np.random.default_rng(seed)
    freedom = replicates - 1
    weights = rng.standard_normal((replicates, resamples)) / np.sqrt(rng.chisquare(freedom, resamples) / freedom)
    return (scores - scores.mean(1, keepdims=True)) @ weights / math.sqrt(replicates * freedom)


def ranked(
    actual: npt.NDArray[np.integer], predicted: Mapping[str, npt.NDArray[np.integer]], classes: int
) -> dict[str, Bounded]:
    """Each model's rank by mean macro-F1 with its interval, from labels (N,) and predictions (R, N) of each."""
    from scipy.stats import rankdata

    scores, samples = pairs.resample(actual, np.array(list(predicted.values())), classes, 0, RESAMPLES)[pairs.SCORES[0]]
    values, (low, high) = rankdata(-scores.mean(1)), ranks(scores, samples)
    return {name: Bounded(float(values[k]), float(low[k]), float(high[k])) for k, name in enumerate(predicted)}
