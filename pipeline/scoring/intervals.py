"""How sure a score is: 95% intervals over trainings and test images.

Shapes: R replicates, K classes; any number of further axes (...).

What is estimated is the score that a training of this model has on average, over seeds and over test sets drawn as this
one was, of as many images. Our mean differs from it for two reasons:

- seeds: it is the mean of R replicates. Student's t of their spread, R - 1 degrees of freedom, which holds what luck
  with images is a single training's own, at a level of 0.96: scores near 1 are skewed, which would cost a hundredth.
  Where several replicates share a split of their own, it is of the splits' means: seeds on one split are alike;
- test images: the luck that replicates have in common, `shared` of all. Clopper and Pearson (1934) of the mean score
  over its effective number of images (`effective`), divided by `shared`: exact for accuracy and for a class's precision
  and recall over one replicate, never of width 0, undefined where the score is.

The distances of both to the mean are the sides of a box, at either end for itself (Banerjee 1960; Zou and Donner 2008,
"Construction of confidence limits about effect measures", Statistics in Medicine 27). Replicates that happen to agree
make no certainty: the interval is never narrower than that over test images of these R trainings. With one replicate it
is that one: about these weights, it says nothing of another seed.

Where each replicate draws its test images from those that it else trains on, as folds do, the spread has all luck with
images in it, but replicates have training images in common and are no independent draws: Nadeau and Bengio (2003,
"Inference for the generalization error", Machine Learning 52) take 1 / R + n_test / n_train for 1 / R.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.scoring.effective import NAMES, effective_images
from pipeline.scoring.metrics import Floats, averages, per_class, score_arrays

Basis = Literal["replicates", "rounds", "test images", "replicates and test images", "draws of the images"]
Splits = npt.NDArray[np.int64] | None
LEVEL = 0.95
SEEDS = 0.96  # the level of Student's t of scores


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval; `n` counts replicates, `basis` says what the interval is taken over.

    NaN stands for what is undefined: a mean that some replicate lacks, the ends where nothing varies.
    """

    mean: float
    low: float
    high: float
    n: int
    basis: Basis

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The mean, the low and the high end."""
        return self.mean, self.low, self.high


@dataclass(frozen=True)
class Scored:
    """A score of each replicate, (R,), and the effective number of test images that it rests on.

    `shared` is the share of the luck with test images that replicates have in common (`effective.shared_luck`).
    `redrawn` is n_test / n_train where each replicate drew its test images from those that it else trains on, 0 where
    all have the same ones; `images` then counts those of all replicates. `splits` says which split each replicate has,
    where several share one: (R,), from 0.
    """

    values: Floats
    images: float
    shared: float = 1.0
    redrawn: float = 0.0
    splits: Splits = None

    @property
    def interval(self) -> Interval:
        """The mean with its interval; see the module."""
        n = len(self.values)
        basis: Basis = "replicates and test images" if n > 1 else "test images"
        mean, low, high = ends(self.values, np.asarray(self.images), self.shared, self.redrawn, self.splits)
        return Interval(float(mean), float(low), float(high), n, "draws of the images" if self.redrawn else basis)


def report_arrays(confusion: npt.ArrayLike) -> dict[str, Floats]:
    """All that a classification report says of many matrices (..., K, K): name -> (...).

    The names of `score_arrays`, and precision, recall and F1 of each class by its index and of both averages:
    "f1/0", "f1/macro", "f1/weighted".
    """
    each, means = per_class(confusion), averages(confusion)
    names = ("precision", "recall", "f1")
    classes = {f"{name}/{k}": each[name][..., k] for name in names for k in range(each[name].shape[-1])}
    return {
        **score_arrays(confusion),
        **classes,
        **{f"{name}/{kind}": values[name] for kind, values in means.items() for name in names},
    }


def scored(
    confusions: npt.ArrayLike,
    shared: float = 1.0,
    redrawn: float = 0.0,
    of_classes: Sequence[float] = (),
    splits: Splits = None,
) -> dict[str, Scored]:
    """All that `report_arrays` says of one model, from its replicates' confusion matrices (R, K, K); see `Scored`.

    `of_classes` is the luck that replicates have in common with the images of each class, K of them; none: `shared`.
    Raises ValueError for a matrix without images.
    """
    counts = np.asarray(confusions)
    if counts.ndim != 3 or not len(counts) or not counts.any((1, 2)).all():
        raise ValueError(f"wanted confusion matrices (R, K, K) of at least one image, got shape {counts.shape}")
    images = effective_images(counts.sum(0) if redrawn else counts.mean(0))
    luck = {f"{name}/{k}": each for name in NAMES for k, each in enumerate(of_classes)}
    return {
        name: Scored(values, float(images[name]), luck.get(name, shared), redrawn, splits)
        for name, values in report_arrays(counts).items()
    }


def intervals(confusions: npt.ArrayLike, shared: float = 1.0, redrawn: float = 0.0) -> dict[str, Interval]:
    """The intervals of all that `report_arrays` says of one model; see `scored`."""
    return {name: each.interval for name, each in scored(confusions, shared, redrawn).items()}


def of_shares(shares: npt.ArrayLike, images: float, shared: float = 1.0, redrawn: float = 0.0) -> Interval:
    """The interval of what is a share of test images in each replicate, (R,), such as top-5 accuracy; see `Scored`."""
    return Scored(np.asarray(shares, dtype=np.float64), images, shared, redrawn).interval


def over_replicates(values: npt.ArrayLike, highest: float = 1.0, lowest: float = 0.0) -> Interval:
    """Student's t interval of the mean of values (R,), R > 1, clipped to what a value can be.

    Over replicates alone: for what is not a score of test images, such as seconds.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2:
        raise ValueError(f"wanted two replicates or more, got {n}: their spread is what the interval is made of")
    mean = array.mean()
    half = student_t(n, LEVEL) * array.std(ddof=1) / np.sqrt(n)
    low, high = np.clip([mean - half, mean + half], lowest, highest)  # NaN stays NaN
    return Interval(float(mean), float(low), float(high), n, "replicates")


# the parts


def ends(
    values: Floats, images: Floats, shared: npt.ArrayLike = 1.0, redrawn: float = 0.0, splits: Splits = None
) -> tuple[Floats, Floats, Floats]:
    """Mean, low and high end (...) of scores (R, ...) of so many effective images (...); see `Scored`."""
    replicates, mean = len(values), values.mean(0)
    common = np.asarray(shared)
    below, above = _distances(mean, images if redrawn else images / (common + (1 - common) / replicates))
    if replicates > 1:
        seeds = _over_trainings(values, redrawn, splits)
        none = np.zeros_like(mean)
        sides = (none, none) if redrawn else _distances(mean, images / np.maximum(common, 1e-9))
        below, above = np.maximum(below, np.hypot(sides[0], seeds)), np.maximum(above, np.hypot(sides[1], seeds))
    return mean, (mean - below).clip(0, 1), (mean + above).clip(0, 1)


def _over_trainings(values: Floats, redrawn: float, splits: Splits) -> Floats:
    """Half the width (...) of the interval of scores (R, ...) over trainings: of seeds, or of the means of splits."""
    if splits is None or len(np.unique(splits)) in (1, len(values)):
        return student_t(len(values), SEEDS) * values.std(0, ddof=1) * np.sqrt(1 / len(values) + redrawn)
    means = np.array([values[splits == split].mean(0) for split in np.unique(splits)])
    weights = np.unique(splits, return_counts=True)[1] / len(values)
    return student_t(len(means), SEEDS) * means.std(0, ddof=1) * np.sqrt((weights**2).sum() + redrawn)


def _distances(share: Floats, images: Floats) -> tuple[Floats, Floats]:
    """From a share to the ends of its interval."""
    low, high = clopper_pearson(share, images)
    return share - low, high - share


def clopper_pearson(share: Floats, images: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The exact interval of a share of so many images, neither of which need be whole; NaN where the share is."""
    from scipy.special import betaincinv  # scipy.stats.beta.ppf without the second that importing scipy.stats takes

    tail = (1 - level) / 2
    hits = share * images
    misses = np.maximum(images - hits, 0)
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(np.where(hits > 0, hits, 1), misses + 1, tail), 0.0)
        high = np.where(misses > 0, betaincinv(hits + 1, np.where(misses > 0, misses, 1), 1 - tail), 1.0)
    return np.where(np.isnan(share), np.nan, low), np.where(np.isnan(share), np.nan, high)


def student_t(replicates: float, level: float) -> float:
    """By how many standard errors the mean of so many normal values may be off."""
    from scipy.special import stdtrit

    return float(stdtrit(replicates - 1, (1 + level) / 2))
