"""All replicates of a model together: the class of the highest mean probability (Lakshminarayanan et al. 2017,
arXiv:1612.01474, eq. 3.1; from different seeds alone, without adversarial training).

Shapes: R replicates, N test images, K classes.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import LEVEL, Interval, student_t
from pipeline.scoring.metrics import Floats
from pipeline.scoring.pairs import OF_NONE, effective_number

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def predicted(probabilities: Sequence[Floats]) -> Labels | None:
    """What replicates predict together (N,), from each one's probabilities (N, K) of the same images.

    None for fewer than two, and where one diverged: its probabilities are NaN.
    """
    mean = np.mean(probabilities, axis=0)  # (N, K)
    return mean.argmax(1) if len(probabilities) > 1 and not np.isnan(mean).any() else None


def gain(together: Flags, alone: Flags) -> Interval:
    """By how much the accuracy of all together (N,) is above the mean of each alone (R, N), over test images.

    An image counts for the share of replicates that the ensemble puts right, or wrong, with these replicates as they
    are. The interval is that of a pair of models with one replicate each (see `pairs`): Student's t of the variance
    about 0, with as many degrees of freedom as the images that the gain rests on, less one; Clopper and Pearson's
    for none of N where no image changes.
    """
    images = len(together)
    shares = together - alone.mean(0)  # (N,), -1 to 1
    value, freedom = shares.mean(), max(effective_number(shares) - 1, 1.0)
    variance = (shares.var() + value**2) / images
    half = student_t(freedom + 1, LEVEL) * math.sqrt(variance) if shares.any() else OF_NONE * 1.96 / images
    return Interval(float(value), max(float(value - half), -1.0), min(float(value + half), 1.0), 1, "test images")
