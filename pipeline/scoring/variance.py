"""What a score varies by: seeds, the split, the test images; each as a variance with its 95% interval.

Shapes: Q quantities (models' scores, or differences of two), R replicates, G splits, B resamples of the test images.

A replicate is one seed on one split. By the analysis of variance of a one-way random model (Searle, Casella and
McCulloch 1992, chapter 3), with n replicates of each split (n0 where their numbers differ):

- seeds (initialisation, order, augmentation): MSW, the mean square within splits;
- split: (MSB - MSW) / n0 between splits, less what their test images differ by, where these are drawn anew;
- test images: c, the covariance between replicates that share them all, over a bootstrap of the images (Efron 1979).
  Where no two share them, c is the variance of a single replicate, its luck on single images included.

With one replicate of each split, or folds, seeds and split vary together and are one part: MSB, less the images. A part
below 0 is 0. Intervals are those of linear combinations of mean squares (Graybill and Wang 1980, doi:10.1080/01621459.
1980.10477565; Ting et al. 1990): exact for seeds. The degrees of freedom of c are Kish's effective number of images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats

Square = tuple[float, float, float]  # what a mean square is multiplied by, itself, its degrees of freedom


@dataclass(frozen=True)
class Part:
    """A variance with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Variance:
    """Of one training's score on one split; None stands for what was not varied, or not apart from another."""

    seeds: Part | None
    split: Part | None
    together: Part | None  # seeds and split, where no two replicates share a split
    images: Part

    @property
    def total(self) -> float:
        """Of all that was varied."""
        return sum(part.value for part in (self.seeds, self.split, self.together, self.images) if part)


def divided(
    scores: Floats, samples: Floats, freedom: Floats, split: npt.NDArray[np.int64], same: npt.NDArray[np.bool_]
) -> list[Variance]:
    """The parts of scores (Q, R), from the same over resamples (Q, R, B) and the splits' numbers (R,), 0 to G - 1.

    `freedom` (Q,) is that of what test images give; `same` (R, R) says which replicates share all of them.
    """
    return [
        _divided(values, np.atleast_2d(np.cov(drawn)), float(degrees), split, same)
        for values, drawn, degrees in zip(scores, samples, freedom, strict=True)
    ]


def _divided(
    values: Floats, covariance: Floats, freedom: float, split: npt.NDArray[np.int64], same: npt.NDArray[np.bool_]
) -> Variance:
    replicates, splits = len(values), int(split.max()) + 1
    others = ~np.eye(replicates, dtype=bool)
    alike, apart = same & others, split[:, None] != split
    single = float(covariance.diagonal().mean())
    images = part((1.0, single, freedom))
    if alike.any():  # the covariance of two, from the variance of the mean over those that are alike and that of one
        several, ones = same.sum() / alike.sum(), replicates / alike.sum()
        images = part((several, float(covariance[same].mean()), freedom), (-ones, single, freedom))
    if replicates == 1:
        return Variance(None, None, None, images)
    sizes = np.bincount(split)
    means = np.bincount(split, values) / sizes
    within = (1.0, float(((values - means[split]) ** 2).sum()) / max(replicates - splits, 1), replicates - splits)
    if splits == 1:
        return Variance(part(within), None, None, images)
    size = (replicates - (sizes**2).sum() / replicates) / (splits - 1)  # n0
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (splits - 1)
    differing = (
        -1.0,
        max(images.value - covariance[apart].mean(), 0.0),
        freedom,
    )  # what splits differ by for their images
    if replicates == splits:
        return Variance(None, None, part((1.0, between, splits - 1), differing), images)
    of_split = part((1 / size, between, splits - 1), (-1 / size, *within[1:]), differing)
    return Variance(part(within), of_split, None, images)


def part(*squares: Square) -> Part:
    """A linear combination of independent mean squares, not below 0; its interval lacks Ting's cross terms."""
    from scipy.special import chdtri  # late: report alone needs it

    value, below, above = 0.0, 0.0, 0.0
    tail = (1 - LEVEL) / 2
    for factor, square, freedom in squares:
        value += factor * square
        down, up = 1 - freedom / chdtri(freedom, tail), freedom / chdtri(freedom, 1 - tail) - 1
        rise, fall = (up, down) if factor > 0 else (down, up)
        below += (fall * factor * square) ** 2
        above += (rise * factor * square) ** 2
    low, high = value - below**0.5, value + above**0.5
    return Part(*(max(float(each), 0.0) for each in (value, low, high)))
