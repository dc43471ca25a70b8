"""All replicates of a model together: the class of the highest mean probability (Lakshminarayanan et al. 2017,
arXiv:1612.01474, eq. 3.1; from different seeds alone, without adversarial training).

Shapes: R replicates, N test images, K classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import Interval, over_images
from pipeline.scoring.metrics import Floats

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

    An image counts for the share of replicates that the ensemble puts right, or wrong; images are drawn anew
    (percentile bootstrap) with these replicates as they are.
    """
    replicates = len(alone)
    shares = replicates * together.astype(np.int64) - alone.sum(0)  # (N,), -R to R
    counts = np.bincount(shares + replicates, minlength=2 * replicates + 1)  # (2R + 1,)
    values = np.arange(-replicates, replicates + 1) / replicates

    def mean(matrices: npt.ArrayLike) -> dict[str, Floats]:
        drawn = np.diagonal(matrices, axis1=-2, axis2=-1)  # (..., 2R + 1)
        return {"gain": drawn @ values / drawn.sum(-1)}

    return over_images(np.diag(counts), measure=mean)["gain"]
