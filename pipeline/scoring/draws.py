"""Replicates that have splits of their own: how far a mean over them varies, and their test images laid side by side.

Shapes: P quantities, R replicates, G splits, N test images of a replicate, U test images of any.

Splits are drawn from the same images, so that their training sets overlap and what is found on them is alike: over G of
them, s^2 / G is too small a variance of the mean. Nadeau and Bengio (2003, Inference for the Generalization Error,
doi:10.1023/A:1024068626366) correct it to (1 / G + n2 / n1) s^2 with G - 1 degrees of freedom, n1 images being trained
on and n2 held out: a heuristic that takes results on two splits to be correlated by n2 / (n1 + n2).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.scoring.metrics import Floats

Labels = npt.NDArray[np.int64]
UNTESTED = -1  # in place of a prediction


@dataclass(frozen=True)
class Draws:
    """Which split each replicate has, (R,), from 0 to G - 1, and how many images are held out for each trained on.

    `test`: whether test images are drawn anew too; what is held out is these then, else the validation images.
    """

    split: npt.NDArray[np.int64]
    held_out: float
    test: bool

    @property
    def splits(self) -> int:
        return int(self.split.max()) + 1

    @property
    def shares(self) -> Floats:
        """Of all replicates those of each split, (G,)."""
        return np.bincount(self.split) / len(self.split)

    def means(self, values: Floats) -> Floats:
        """Of the replicates of each split, (P, G) from (P, R)."""
        return np.stack([values[:, self.split == split].mean(1) for split in range(self.splits)], axis=1)

    def variance(self, values: Floats) -> Floats:
        """Of the mean of values (P, R) over seeds and splits, (P,), with G - 1 degrees of freedom."""
        factor = (self.shares**2).sum() + self.held_out
        return factor * self.means(values).var(1, ddof=1)

    def over_seeds(self, values: Floats) -> tuple[Floats, Floats]:
        """Variance of the mean of values (P, R) over seeds alone, (P,), and its degrees of freedom, R - G > 0."""
        freedom = len(self.split) - self.splits
        rest = values - self.means(values)[:, self.split]
        return (rest**2).sum(1) / freedom / len(self.split), np.full(len(values), float(freedom))


def side_by_side(images: npt.NDArray[np.str_], actual: Labels, predicted: Labels) -> tuple[Labels, Labels]:
    """Labels (U,) and predictions (..., R, U) of all images, by their names (R, N), from (R, N) and (..., R, N).

    What a replicate was not tested on is UNTESTED.
    """
    names, places = np.unique(images, return_inverse=True)
    places = places.reshape(images.shape)
    labels = np.empty(len(names), dtype=np.int64)
    labels[places] = actual
    joined = np.full((*predicted.shape[:-1], len(names)), UNTESTED, dtype=np.int64)
    np.put_along_axis(joined, np.broadcast_to(places, predicted.shape), predicted, axis=-1)
    return labels, joined
