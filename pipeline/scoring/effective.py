"""On how many test images a score rests: its effective number of images, from confusion matrices.

Shapes: R replicates, N images, K classes; any number of leading axes (...).

A share p of n independent images varies over test images by p (1 - p) / n. For a score T of variance v the number
n = T (1 - T) / v is its effective number of images (Kish 1965): all of them for accuracy, the class's for its recall,
the predictions of it for its precision, fewer for an average over classes of which some are rare. With it, what is
exact for shares serves other scores too (Korn and Graubard 1998, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", Survey Methodology 24).

For averages over classes v is the delta method's, the sum over images of what the score gains by each, squared. As it
is estimated from few images where classes are rare, it is made larger thrice: a class without a mistake would have no
variance, so each gets half a mistake more, which T (1 - T) has as well, and one without a hit gets half a hit; a class
of n images counts n / (n - 1) times;
and n is divided by (t / z)^2, Student's t at Satterthwaite's (1946) degrees of freedom, of a class as many as images.
"""

import numpy as np
import numpy.typing as npt

from pipeline.scoring.metrics import Floats, per_class

NAMES = ("precision", "recall", "f1")
MISTAKES = HITS = 0.5  # that each class gets more than it has, and that it has at least
TAIL = 0.975


def effective_images(confusion: npt.ArrayLike) -> dict[str, Floats]:
    """The effective number of images of each score of a classification report, of matrices (..., K, K): name -> (...).

    The names are those of `intervals.report_arrays`. Matrices need not be of whole numbers. Where a score is undefined
    its number means nothing.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    images, each, known = counts.sum((-2, -1)), of_classes(counts), per_class(counts)
    means = {
        f"{name}/{kind}": _of_average(counts, name, kind == "weighted", ~np.isnan(known[name]))
        for kind in ("macro", "weighted")
        for name in NAMES
    } | {"recall/weighted": images}  # it is the accuracy
    return {
        "accuracy": images,
        "macro_f1": means["f1/macro"],
        "weighted_f1": means["f1/weighted"],
        "balanced_accuracy": means["recall/macro"],
        **{f"{name}/{k}": each[name][..., k] for name in NAMES for k in range(counts.shape[-1])},
        **means,
    }


def of_classes(counts: Floats) -> dict[str, Floats]:
    """The numbers (..., K) of each class's precision, recall and F1, of matrices (..., K, K).

    F1 is 2 J / (1 + J), J being the hits' share of the n images that are of the class or predicted as it: the delta
    method gives n (1 + J)^2 / 2, J being taken with one mistake more.
    """
    hits, support, predicted = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    either = support + predicted - hits
    return {"precision": predicted, "recall": support, "f1": either * (1 + hits / (either + 1)) ** 2 / 2}


def shared_luck(right: npt.NDArray[np.bool_]) -> float:
    """The share, 0 to 1, of the luck with test images that replicates have in common: which they have right, (R, N).

    It is the correlation between replicates of being right on an image, 1 for one replicate, with one image more that
    all have right and one that all have wrong: where mistakes are few, little is known of it.
    """
    replicates, images = right.shape
    if replicates == 1:
        return 1.0
    wrong = (~right).sum(0)  # (N,)
    rate = (wrong.sum() / replicates + 1) / (images + 2)
    both = ((wrong * (wrong - 1)).sum() / (replicates * (replicates - 1)) + 1) / (images + 2)
    return float(np.clip((both - rate**2) / (rate * (1 - rate)), 0, 1))


def luck_of(right: npt.NDArray[np.bool_], shared: float) -> float:
    """The same of some of the test images (R, n), those of a class or a subgroup; `shared`, that of all, at least.

    Two images more, of which half are wrong, have the luck of all in common: a few without a mistake say nothing else.
    """
    replicates, images = right.shape
    if replicates == 1:
        return 1.0
    wrong = (~right).sum(0)  # (n,)
    rate = wrong.sum() / replicates / max(images, 1)
    both = (wrong * (wrong - 1)).sum() / (replicates * (replicates - 1))
    common, own = both - images * rate**2, images * rate * (1 - rate)
    return float(np.clip((common + shared / 2) / (own + 1 / 2), shared, 1))


def _of_average(counts: Floats, name: str, weighted: bool, known: npt.NDArray[np.bool_]) -> Floats:
    """The number (...) of an average of `name` over the `known` classes (..., K), weighted by their images or not."""
    cells, support = _with_mistakes(counts), counts.sum(-1)  # (..., K, K), (..., K)
    weight = np.where(known, support if weighted else 1.0, 0.0)
    weight = _over(weight, weight.sum(-1, keepdims=True))
    score, gained = _gained(cells, name, weight, known & weighted)
    parts = (cells * gained**2).sum(-1) * support / np.maximum(support - 1, 0.5)  # (..., K)
    variance = parts.sum(-1)
    freedom = _over(variance**2, (parts**2 / np.maximum(support, 0.5)).sum(-1))
    found = np.where(variance > 0, _over(score * (1 - score), variance), counts.sum((-2, -1)))
    return found / _widening(freedom)


def _gained(cells: Floats, name: str, weight: Floats, weighted: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """An average (...) of a score of classes, and what it gains by an image of each cell (..., K, K).

    `weighted` are the classes whose weight grows with their images.
    """
    hits, support, predicted = np.diagonal(cells, axis1=-2, axis2=-1), cells.sum(-1), cells.sum(-2)
    whole = {"precision": predicted, "recall": support, "f1": (support + predicted) / 2}[name]  # hits are a share of it
    share, each = _over(hits, whole), _over(weight, whole)
    score = (weight * share).sum(-1)
    lost = each * share / (2 if name == "f1" else 1)  # as the whole grows
    by_row, by_column = (lost * (name != other) for other in ("precision", "recall"))
    total = (support * weighted).sum(-1, keepdims=True)
    by_row = by_row - _over(weighted * (share - score[..., None]), total)
    gained = -by_row[..., :, None] - by_column[..., None, :]
    diagonal = np.arange(cells.shape[-1])
    gained[..., diagonal, diagonal] += each
    return score, gained


def _with_mistakes(counts: Floats) -> Floats:
    """The matrices with `MISTAKES` more in each class that occurs, spread over the others, and `HITS` at least.

    There are as many images as before.
    """
    classes = counts.shape[-1]
    support, own = counts.sum(-1, keepdims=True), np.eye(classes)
    more = np.maximum(counts, HITS * own) + MISTAKES / max(classes - 1, 1) * (1 - own)
    return more * _over(support, more.sum(-1, keepdims=True))


def _widening(freedom: Floats) -> Floats:
    """(t / z)^2 of so many degrees of freedom, one at least."""
    from scipy.special import ndtri, stdtrit

    return np.asarray((stdtrit(np.maximum(freedom, 1), TAIL) / ndtri(TAIL)) ** 2)


def _over(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where whole is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.zeros(shape), where=np.asarray(whole) > 0)
