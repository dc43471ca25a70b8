"""Sets of classes that hold an image's own with a promised probability: split conformal prediction by APS.

Adaptive prediction sets (Romano, Sesia and Candès 2020, "Classification with Valid and Adaptive Coverage",
arXiv:2006.02544): an image's set has its likeliest classes until their probabilities reach a threshold, which is the
smallest that holds the promised share of the labels of validation images. Sets hold the labels of new images that
often, whatever the network is, as far as these are drawn as the validation images were. Departs: a set has one class at
least, so that of accurate networks sets hold the label more often than promised.

Shapes: N images, K classes; `u` (N,) are uniform draws, which decide on the last class of a set.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from pipeline.scoring.metrics import Floats

PROMISED = 0.95
Labels = npt.NDArray[np.integer]


def reached(probabilities: Floats, u: Floats) -> Floats:
    """The least threshold at which an image's set has each class (N, K): E of Romano et al., eqs. 5 and 7.

    It is the sum of the probabilities from the likeliest class to this one, less u times its own.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    found = np.empty_like(ranked)
    np.put_along_axis(found, order, ranked.cumsum(1) - u[:, None] * ranked, axis=1)
    return found


def threshold(scores: Floats, promised: float = PROMISED) -> float:
    """The ceil((N + 1) promised)-th smallest of the scores (N,) of labels; infinite where there are too few images."""
    rank = math.ceil((len(scores) + 1) * promised - 1e-9)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def conformal_sets(probabilities: Floats, u: Floats, reach: float) -> npt.NDArray[np.bool_]:
    """Which classes are in each image's set (N, K): those within the threshold `reach`, and the likeliest."""
    sets = reached(probabilities, u) <= reach
    sets[np.arange(len(sets)), probabilities.argmax(1)] = True
    return sets


def covered(
    validation: tuple[Floats, Labels] | None, logits: Floats, labels: Labels, rng: np.random.Generator
) -> dict[str, float | None]:
    """How many labels (N,) of test images their sets hold, and the mean number of classes in a set.

    The threshold is that of the logits (M, K) and labels (M,) of `validation`. None without these, and of logits (N, K)
    that are not finite.
    """
    if validation is None or not (np.isfinite(validation[0]).all() and np.isfinite(logits).all()):
        return {"set_coverage": None, "set_size": None}
    known, theirs = (softmax(np.asarray(each, dtype=np.float64), axis=1) for each in (validation[0], logits))
    scores = reached(known, rng.random(len(known)))[np.arange(len(known)), validation[1]]
    sets = conformal_sets(theirs, rng.random(len(theirs)), threshold(scores))
    return {"set_coverage": float(sets[np.arange(len(sets)), labels].mean()), "set_size": float(sets.sum(1).mean())}
