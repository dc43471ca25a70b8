"""All replicates of a model together: the class of the highest mean probability (Lakshminarayanan et al. 2017,
arXiv:1612.01474, eq. 3.1; from different seeds alone, without adversarial training).

Shapes: R replicates, N test images, K classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import LEVEL, Interval
from pipeline.scoring.metrics import Floats

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
RESAMPLES = 2000


def predicted(probabilities: Sequence[Floats]) -> Labels | None:
    """What replicates predict together (N,), from each one's probabilities (N, K) of the same images.

    None for fewer than two, and where one diverged: its probabilities are NaN.
    """
    mean = np.mean(probabilities, axis=0)  # (N, K)
    return mean.argmax(1) if len(probabilities) > 1 and not np.isnan(mean).any() else None


def gain(together: Flags, alone: Flags) -> Interval:
    """By how much the accuracy of all together (N,) is above the mean of each alone (R, N), over test images.

    An image counts for the share of replicates that the ensemble puts right, or wrong; images are drawn anew
    (percentile bootstrap, Efron 1979) with these replicates as they are.
    """
    replicates = len(alone)
    shares = replicates * together.astype(np.int64) - alone.sum(0)  # (N,), -R to R
    counts = np.bincount(shares + replicates, minlength=2 * replicates + 1)  # (2R + 1,)
    values, images = np.arange(-replicates, replicates + 1) / replicates, len(together)
    drawn = np.random.default_rng(0).multinomial(images, counts / images, size=RESAMPLES)  # (B, 2R + 1)
    low, high = np.quantile(drawn @ values / images, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(counts @ values / images), float(low), float(high), 1, "test images")
