"""Which differences between models hold: every pair of models on the same test images, with a verdict.

Shapes: M models, R replicates, N test images, K classes, B resamples, P pairs.

A difference D of mean scores varies for two reasons: the seeds, and the test images. With R > 1,

- seeds: D averages R differences of one seed each; their sample variance s^2 gives s^2 / R with R - 1 degrees of
  freedom. It holds whatever is particular to one training, its luck on these images included;
- test images: c, what the differences of all replicates share, is the covariance between replicates of a bootstrap
  that draws the same images for every model and replicate (Efron 1979). Its degrees of freedom are Kish's effective
  number of images that the difference rests on, less one: (sum u^2)^2 / sum u^4, u being an image's influence on D;
  for accuracy those that one of two models has right and the other wrong.

The interval is D -+ sqrt(t^2 s^2 / R + t'^2 c), with Student's t of either's degrees of freedom: Banerjee (1960), whose
coverage is never below the level, as the distribution function of chi-squared with one degree is concave. Adding the
variances and approximating the degrees of freedom (Satterthwaite) is not used: with 3 seeds it calls up to 8 of 100
equal pairs different, and far more at the levels that a correction for many pairs asks for. The interval is never
narrower than that over test images alone; with R = 1 it is that one, and speaks of these weights only. Models that
answer alike on all N images may differ on others: their interval is Clopper and Pearson's for none of N.

Where replicates have splits of their own (`Draws`), folds among them, s^2 is that of the splits' means, corrected for
what training sets share. Where their test images differ too, that covers test images, and the second part is left
out. A bootstrap over the images that any replicate was tested on, and the seeds within splits, bound the interval
from below. At most 5 of 100 pairs of equal learners on new images are called different (simulations in
`tests/scoring/test_draws.py`).

Assumed: seeds are drawn independently of each other (the two models of a pair may share a seed's luck), a seed's
difference is roughly normal, test images are a random draw, c is known well. Power is low with few replicates, as R - 1
degrees of freedom are few: `threshold` says how low. p is the level at which the interval touches 0; Holm (1979) over
all pairs keeps the chance of calling any equal pair different at 5%, however pairs depend on each other.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.scoring.draws import UNTESTED, Draws
from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats

Verdict = Literal["better", "worse", "not distinguishable"]
SCORES = ("macro_f1", "accuracy")  # the verdict is that of the first
Part = tuple[float, float]  # a variance and its degrees of freedom
Parts = tuple[tuple[Floats, Floats], ...]  # independent parts of a variance, each with its degrees of freedom, (P,)
POWER = 0.8
RESAMPLES = 2000
OF_NONE = 1.88  # a standard deviation, in images: 1.96 of them are the 3.69 that may be wrong where none of many is
KNOWN = 1e9  # degrees of freedom of a variance that is known
REPLICATES = (*range(2, 11), 15, 20, 30, 50, 100, 200, 500, 1000)  # that are tried to settle a pair


@dataclass(frozen=True)
class Difference:
    """A model's mean score less another's, with its 95% interval and the one over test images alone (percentiles).

    `settled_by` is the order of magnitude of the replicates after which a difference as large as this one would be
    called (with 80% power, Bonferroni-corrected for as many pairs): a number, ">1000", or "test images" where those
    limit it and no number of replicates would do; empty where it is called already, seeds were not varied or replicates
    have splits of their own. `settled_from` is the same for the largest difference that the interval holds: if that is
    "test images" too, more replicates would be of no use, as surely as the interval holds the difference.
    """

    value: float
    low: float
    high: float
    images_low: float
    images_high: float
    p: float
    holm: float
    verdict: Verdict
    settled_by: str
    settled_from: str
    bounds: tuple[
        tuple[Part, ...], ...
    ] = ()  # of which the interval is the widest: by what `value` varies, over images, where no image tells them apart
    heaviest: float = 0.0  # by how much one test image can change the score of a model, at most


@dataclass(frozen=True)
class Pair:
    """`model` beside `other`: differences by score, and McNemar's test of these weights, Holm-adjusted too."""

    model: str
    other: str
    differences: Mapping[str, Difference]
    mcnemar: float
    mcnemar_holm: float

    @property
    def verdict(self) -> Verdict:
        return self.differences[SCORES[0]].verdict


def compare(
    actual: npt.NDArray[np.integer],
    predicted: Mapping[str, npt.NDArray[np.integer]],
    classes: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
    draws: Draws | None = None,
) -> list[Pair]:
    """Every pair of models, in their order, from labels (N,) and each model's predictions (R, N), 0 to K - 1.

    Replicate r of every model is of the same seed, and of the same images: those that it was not tested on are
    UNTESTED. `draws`: of two splits or more, where replicates have such. Raises ValueError where shapes differ.
    """
    names = list(predicted)
    guesses = np.array([predicted[name] for name in names])  # (M, R, N)
    if guesses.ndim != 3 or guesses.shape[-1] != len(actual) or not guesses.size:
        raise ValueError(f"wanted predictions (R, {len(actual)}) of each model, got {guesses.shape[1:]}")
    if len(names) < 2:
        return []
    first, second = np.array(list(combinations(range(len(names)), 2))).T  # (P,), (P,)
    drawn = resample(actual, guesses, classes, seed, resamples)
    influences = influence(actual, guesses, classes)
    heaviest = heaviest_image(actual)
    differences = [
        _differences(*drawn[name], influences[name], first, second, draws, heaviest[name]) for name in SCORES
    ]  # per score, one for each pair
    folds = ((guesses[0] != UNTESTED).sum(0) == 1).all()  # one test of all images
    right = (guesses == actual).any(1, keepdims=True) if folds else guesses == actual
    tests = mcnemar(right, first, second)  # (P,)
    adjusted = holm(tests)
    return [
        Pair(
            names[first[pair]],
            names[second[pair]],
            {name: each[pair] for name, each in zip(SCORES, differences, strict=True)},
            float(tests[pair]),
            float(adjusted[pair]),
        )
        for pair in range(len(first))
    ]


def compare_shares(
    right: Mapping[str, npt.NDArray[Any]],
    seed: int = 0,
    resamples: int = RESAMPLES,
    draws: Draws | None = None,
) -> dict[tuple[str, str], Difference]:
    """Accuracy of every pair of models, in their order, from how right each is on each image, 0 to 1: (R, N).

    An image that was looked at in many variants counts once, by the share of them that is right. Of what is right or
    wrong, as `compare` has it.
    """
    names = list(right)
    if len(names) < 2:
        return {}
    shares = np.array([right[name] for name in names], dtype=np.float64)  # (M, R, N)
    images = shares.shape[-1]
    drawn = [shares @ times / images for times in _drawn(images, seed, resamples, 2**22 // images)]
    first, second = np.array(list(combinations(range(len(names)), 2))).T  # (P,), (P,)
    samples, influences = np.concatenate(drawn, axis=-1), shares.mean(1) / images
    found = _differences(shares.mean(-1), samples, influences, first, second, draws, 1 / images)
    return {(names[first[pair]], names[second[pair]]): each for pair, each in enumerate(found)}


@dataclass(frozen=True)
class _Spread:
    """Variances (P,) of differences, each for its reason, and the degrees of freedom of those over test images."""

    alone: Floats  # over test images, of D, the weights as they are
    one: Floats  # over test images, of one seed's difference
    seeds: Floats  # of one seed's difference; 0 with a single replicate
    shared: Floats  # over test images, what all replicates share
    freedom: Floats
    alike: npt.NDArray[np.bool_]  # whether no image tells the models apart


def _differences(
    scores: Floats,
    samples: Floats,
    influences: Floats,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    draws: Draws | None,
    heaviest: float,
) -> list[Difference]:
    """Scores (M, R), resampled (M, R, B), influences of images on a model's mean score (M, N) -> one of each pair."""
    each = scores[first] - scores[second]  # (P, R)
    value = each.mean(1)
    spread = _spread(each, samples, influences, first, second)
    bounds = _bounds(each, spread, draws, influences.shape[-1])
    p = np.max([p_values(value, each) for each in bounds], axis=0)
    half = np.max([half_widths(1 - LEVEL, each) for each in bounds], axis=0)
    low, high = np.clip([value - half, value + half], -1, 1)
    ends = _over_images(samples.mean(1), first, second)
    adjusted = holm(p)
    verdicts = [_verdict(*each) for each in zip(value, adjusted, strict=True)]
    seeds_alone = scores.shape[1] > 1 and draws is None
    unsettled = [verdict == "not distinguishable" and seeds_alone for verdict in verdicts]
    return [
        Difference(
            value=float(value[k]),
            low=float(low[k]),
            high=float(high[k]),
            images_low=float(ends[k, 0]),
            images_high=float(ends[k, 1]),
            p=float(p[k]),
            holm=float(adjusted[k]),
            verdict=verdicts[k],
            settled_by=_settled(spread, abs(value[k]), k) if unsettled[k] else "",
            settled_from=_settled(spread, abs(value[k]) + half[k], k) if unsettled[k] else "",
            bounds=tuple(tuple((float(part[k]), float(freedom[k])) for part, freedom in parts) for parts in bounds),
            heaviest=heaviest,
        )
        for k in range(len(value))
    ]


def _over_images(samples: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    """The ends (P, 2) of the percentile interval of each difference, from resampled means (M, B)."""
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.array([np.quantile(samples[a] - samples[b], tails) for a, b in zip(first, second, strict=True)])


def _bounds(each: Floats, spread: _Spread, draws: Draws | None, images: int) -> list[Parts]:
    """What the interval is the widest of: all parts together, test images alone, seeds alone where splits have more.

    And, where two models differ on none of the images, by how much they may still differ on others.
    """
    none = (np.where(spread.alike, (OF_NONE / images) ** 2, 0.0), np.full(len(each), KNOWN))
    bounds: list[Parts] = [_parts(each, spread, draws), ((spread.alone, spread.freedom),), (none,)]
    if draws and len(draws.split) > draws.splits:
        bounds.append((draws.over_seeds(each),))
    return bounds


def _parts(each: Floats, spread: _Spread, draws: Draws | None) -> Parts:
    """What the mean of differences (P, R) varies by."""
    pairs, replicates = each.shape
    if replicates == 1:
        return ((spread.alone, spread.freedom),)
    images = (spread.shared, spread.freedom)
    if draws is None:
        return ((spread.seeds / replicates, np.full(pairs, replicates - 1.0)), images)
    splits = (draws.variance(each), np.full(pairs, draws.splits - 1.0))
    return (splits,) if draws.test else (splits, images)


def _verdict(value: float, holm: float) -> Verdict:
    if holm > 1 - LEVEL:
        return "not distinguishable"
    return "better" if value > 0 else "worse"


def _settled(spread: _Spread, value: float, k: int) -> str:
    """By how many replicates pair k would be called, were its difference `value`; see `Difference`."""
    seeds = max(spread.seeds[k], spread.one[k] - spread.shared[k])  # not below the luck on single images, known well
    return settled_by(value, seeds, spread.shared[k], spread.freedom[k], (1 - LEVEL) / len(spread.seeds))


def _spread(
    each: Floats, samples: Floats, influences: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> _Spread:
    """Differences of each seed (P, R), and what `_differences` takes."""
    value, replicates, models = each.mean(1), each.shape[1], len(samples)
    covariance = np.cov(samples.reshape(models * replicates, -1)).reshape(models, replicates, models, replicates)
    # About 0, not about D, as McNemar's: a difference without spread is not for that certain.
    about = value**2 / influences.shape[-1]
    alone = _contrast(covariance.mean((1, 3)), first, second) + about
    one = _contrast(np.einsum("arbr->ab", covariance) / replicates, first, second) + about
    numbers = np.array([effective_number(influences[a] - influences[b]) for a, b in zip(first, second, strict=True)])
    freedom, alike = (numbers - 1).clip(1), numbers == 0
    if replicates == 1:
        return _Spread(alone, one, np.zeros_like(value), alone, freedom, alike)
    shared = ((replicates * alone - one) / (replicates - 1)).clip(0)
    return _Spread(alone, one, each.var(1, ddof=1), shared, freedom, alike)


def _contrast(covariance: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    """Variances (P,) of differences from the covariance (M, M) of what is subtracted; rounding goes not below 0."""
    own = covariance.diagonal()
    return (own[first] + own[second] - 2 * covariance[first, second]).clip(0)


def heaviest_image(actual: npt.NDArray[np.integer]) -> dict[str, float]:
    """By how much one image can change a score at most, about: of macro-F1 one of the class with the fewest."""
    counts = np.bincount(actual)
    rarest = int(counts[counts > 0].min()) * int((counts > 0).sum())
    return {"macro_f1": 1 / rarest, "accuracy": 1 / len(actual)}


def effective_number(influences: Floats) -> float:
    """Kish's effective number: n for n images of equal weight and others of none, 0 where none has any."""
    squares = influences**2
    return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else 0.0


# scores


def f1_and_accuracy(hits: Floats, support: Floats, predicted: Floats) -> dict[str, Floats]:
    """Macro-F1 and accuracy (...) from each class's hits, support and predictions (..., K), as `metrics` has them."""
    both = support + predicted
    defined = both > 0
    f1 = np.divide(2 * hits, both, out=np.zeros(both.shape), where=defined)
    return {"macro_f1": f1.sum(-1) / defined.sum(-1), "accuracy": hits.sum(-1) / support.sum(-1)}


def resample(
    actual: npt.NDArray[np.integer], guesses: npt.NDArray[np.integer], classes: int, seed: int, resamples: int
) -> dict[str, tuple[Floats, Floats]]:
    """Each score as it is (M, R) and over resamples of the test images (M, R, B), the same ones for all of `guesses`.

    All resamples' counts are one product: images of a cell, (M * R * K, N) and sparse, times how often each is drawn.
    """
    models, replicates, images = guesses.shape
    rows = np.arange(models * replicates)[:, None] * classes + guesses.reshape(-1, images)  # (M * R, N)
    height = models * replicates * classes
    tested = guesses[0] != UNTESTED  # (R, N)
    tested = tested[:1] if tested.all() else tested  # one row that speaks for all
    hits = _indicator((guesses == actual).reshape(rows.shape), rows, height)
    predicted = _indicator((guesses != UNTESTED).reshape(rows.shape), rows, height)
    support = _indicator(tested, np.arange(len(tested))[:, None] * classes + actual, len(tested) * classes)

    def count(times: npt.NDArray[np.float32]) -> dict[str, Floats]:  # (N, b) -> (M, R, b)
        shape = (models, replicates, classes, -1)
        cells = ((each @ times).reshape(shape) for each in (hits, predicted))  # whole numbers below 2^24: exact
        right, named = (np.moveaxis(each, 2, -1).astype(np.float64) for each in cells)  # (M, R, b, K)
        tests = (support @ times).reshape(len(tested), classes, -1).swapaxes(1, 2)  # (R or 1, b, K)
        return f1_and_accuracy(right, tests.astype(np.float64), named)

    found: dict[str, list[Floats]] = {name: [] for name in SCORES}
    at_once = min(2**22 // images, 2**23 // height)  # a few hundred MiB at most
    folds = tested.argmax(0) if (tested.sum(0) == 1).all() else np.zeros(images, dtype=np.int64)
    for times in _drawn(images, seed, resamples, at_once, folds):
        for name, values in count(times).items():
            found[name].append(values)
    once = count(np.ones((images, 1), dtype=np.float32))
    return {name: (once[name][..., 0], _known(np.concatenate(found[name], axis=-1))) for name in SCORES}


def _known(samples: Floats) -> Floats:
    """Of scores (M, R, B) the draws that hold an image of each replicate's: of others some scores are undefined."""
    return samples[..., ~np.isnan(samples).any((0, 1))]


def _drawn(
    images: int, seed: int, resamples: int, at_once: int, folds: npt.NDArray[np.int64] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """How often each image is drawn, (N, b), in resamples that many at once; of each fold (N,) as many as it has."""
    rng, step = np.random.default_rng(seed), max(1, at_once)
    for start in range(0, resamples, step):
        width = min(step, resamples - start)
        if folds is None or not folds.any():
            drawn = rng.integers(images, size=(width, images))
        else:
            sizes = np.bincount(folds)
            order, first = np.argsort(folds, kind="stable"), np.cumsum(sizes) - sizes
            places = first[folds] + (rng.random((width, images)) * sizes[folds]).astype(np.int64)
            drawn = order[places]
        drawn = drawn + images * np.arange(width)[:, None]
        times = np.bincount(drawn.ravel(), minlength=width * images).reshape(width, images)
        yield np.ascontiguousarray(times.T, dtype=np.float32)


def _indicator(where: npt.NDArray[np.bool_], rows: npt.NDArray[np.integer], height: int) -> Any:
    """A sparse matrix (height, N) of ones where `where` (L, N) is true, in the rows that `rows` (L, N) says."""
    from scipy.sparse import csr_array  # late: report alone needs it

    cells = (rows[where], np.nonzero(where)[1])
    return csr_array((np.ones(where.sum(), dtype=np.float32), cells), shape=(height, where.shape[1]))


def influence(actual: npt.NDArray[np.integer], guesses: npt.NDArray[np.integer], classes: int) -> dict[str, Floats]:
    """How much an image weighs in each model's mean score, (M, N): of macro-F1 its derivative by the image's weight."""
    right = guesses == actual  # (M, R, N)
    macro = np.zeros(right.shape)
    for place in np.ndindex(*guesses.shape[:2]):
        tested = guesses[place] != UNTESTED
        guess, label, hit = guesses[place][tested], actual[tested], right[place][tested]
        both = np.bincount(label, minlength=classes) + np.bincount(guess, minlength=classes)  # (K,)
        each = 1 / np.maximum(both, 1)
        f1 = 2 * np.bincount(label[hit], minlength=classes) * each
        macro[place][tested] = (2 * hit * each[label] - (f1 * each)[label] - (f1 * each)[guess]) / (both > 0).sum()
    images = (guesses[0] != UNTESTED).sum(-1, keepdims=True)  # (R, 1)
    return {"macro_f1": macro.mean(1), "accuracy": (right / images).mean(1)}


# tests


def half_widths(alpha: float | Floats, parts: Parts) -> Floats:
    """Half the width (P,) of the interval of level 1 - alpha: Student's t of each part, as the sides of a box."""
    from scipy.special import stdtrit

    return np.sqrt(sum(stdtrit(freedom, np.asarray(alpha) / 2) ** 2 * part for part, freedom in parts))


def p_values(value: Floats, parts: Parts) -> Floats:
    """The level (P,) at which the interval around each value touches 0, to a millionth of itself; 1 where it is 0."""
    low, high = np.full(np.shape(value), -300.0), np.zeros(np.shape(value))  # logarithms
    for _ in range(32):
        middle = (low + high) / 2
        outside = half_widths(np.exp(middle), parts) < np.abs(value)
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    return np.where(value == 0, 1.0, np.exp(high))


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's adjusted p-values: the smallest times their number, the next times one less, never falling, at most 1."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = raised.clip(max=1)
    return adjusted


def mcnemar(right: npt.NDArray[np.bool_], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    """McNemar's exact test of each pair (P,) from what each model has right, (M, R, N).

    It asks of these weights whether one of two models errs more often: seeds have no part in it. The tests of the
    replicates share their images, so they are not added up but combined by Rueger's rule, which holds however p-values
    depend on each other: the k-th smallest of R times R / k, here for the median (Vovk and Wang 2020, section 1).
    """
    from scipy.special import bdtr

    replicates = right.shape[1]
    hits = np.moveaxis(right, 1, 0).astype(np.float32)  # (R, M, N)
    only = hits @ np.swapaxes(1 - hits, 1, 2)  # [r, a, b]: images that a has right and b wrong
    ours, theirs = only[:, first, second], only[:, second, first]  # (R, P)
    fewer, both = np.minimum(ours, theirs), ours + theirs
    values = np.minimum(1, 2 * bdtr(fewer.astype(np.float64), both.astype(np.int64), 0.5))
    middle = math.ceil(replicates / 2)
    return np.minimum(1, np.sort(values, axis=0)[middle - 1] * replicates / middle)


# how many replicates


def settled_by(value: float, seeds: float, shared: float, freedom: float, alpha: float) -> str:
    """See `Difference`; `seeds` is the variance of one seed's difference, `shared` that over test images."""
    from scipy.special import ndtri

    for number in (*REPLICATES, math.inf):
        parts = [(np.asarray(shared), np.asarray(freedom))]
        if number < math.inf:
            parts.append((np.asarray(seeds / number), np.asarray(number - 1.0)))
        error = math.sqrt(sum(float(part) for part, _ in parts))
        if float(half_widths(alpha, tuple(parts))) + ndtri(POWER) * error <= abs(value):
            return str(number) if number < math.inf else f">{REPLICATES[-1]}"
    return "test images"


def threshold(replicates: int, pairs: int) -> float:
    """How many standard deviations of a seed's difference a difference has to exceed to be called, R > 1.

    The first of `pairs`, before test images are allowed for.
    """
    from scipy.special import stdtrit

    return float(stdtrit(replicates - 1, 1 - (1 - LEVEL) / (2 * pairs)) / math.sqrt(replicates))


def best(pairs: Sequence[Pair], model: str) -> list[Pair]:
    """The pairs of `model`, seen from it."""
    return [pair if pair.model == model else turned(pair) for pair in pairs if model in (pair.model, pair.other)]


def between(pairs: Sequence[Pair], model: str, other: str) -> Pair:
    """The pair of two models, seen from the first."""
    return next(pair for pair in best(pairs, model) if pair.other == other)


def turned(pair: Pair) -> Pair:
    """The same pair seen from the other model."""
    opposite: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    return Pair(
        pair.other,
        pair.model,
        {
            name: replace(
                each,
                value=-each.value,
                low=-each.high,
                high=-each.low,
                images_low=-each.images_high,
                images_high=-each.images_low,
                verdict=opposite.get(each.verdict, each.verdict),
            )
            for name, each in pair.differences.items()
        },
        pair.mcnemar,
        pair.mcnemar_holm,
    )
