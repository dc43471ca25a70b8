"""Scores of a classifier, all of them from its confusion matrix.

Shapes: N images, K classes; counts[i, j] images of class i were predicted as class j. Definitions are scikit-learn's;
what is undefined is NaN here, where scikit-learn puts a 0 and a warning. Every function but `confusion_matrix` takes
any number of leading axes, (..., K, K), so that thousands of resampled matrices cost one call.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SCORES = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy")


def confusion_matrix(actual: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """Counts (K, K), rows actual, columns predicted, of two label arrays (N,) with values 0 to K - 1.

    Raises ValueError if the arrays differ in length, are not integers, or hold a label outside 0..K-1.
    """
    pair = np.asarray(actual), np.asarray(predicted)  # (N,), (N,)
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        raise ValueError(f"wanted two label arrays of one length, got shapes {pair[0].shape} and {pair[1].shape}")
    for name, labels in zip(("actual", "predicted"), pair, strict=True):
        if not labels.size:
            continue
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"wanted integer labels, got {name} of type {labels.dtype}")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"wanted labels 0 to {classes - 1}, got {name} {labels.min()} to {labels.max()}")
    cells = pair[0].astype(np.int64) * classes + pair[1].astype(np.int64)  # (N,)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class(confusion: npt.ArrayLike) -> dict[str, Floats]:
    """Precision, recall, F1 and support (..., K) of each class; NaN where undefined.

    Precision is undefined for a class never predicted, recall for one that never occurs, F1 = 2tp / (2tp + fp + fn)
    for one that does neither: a class that occurs and is never predicted has F1 0.
    """
    counts = _square(confusion)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)  # (..., K)
    support, predicted = counts.sum(-1), counts.sum(-2)  # (..., K)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),  # 2tp + fp + fn = (tp + fn) + (tp + fp)
        "support": support,
    }


def scores(confusion: npt.ArrayLike) -> dict[str, float]:
    """Accuracy, macro-F1, weighted F1 and balanced accuracy of one confusion matrix (K, K), as fractions."""
    return {name: float(value) for name, value in score_arrays(confusion).items()}


def score_arrays(confusion: npt.ArrayLike) -> dict[str, Floats]:
    """`scores` of many matrices (..., K, K) at once: name -> (...). NaN for a matrix without images.

    Macro-F1 averages the classes that occur or are predicted (scikit-learn's label set), balanced accuracy the recall
    of the classes that occur, weighted F1 weighs by support.
    """
    counts = _square(confusion)
    each = averages(counts)
    return {
        "accuracy": _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1))),
        "macro_f1": each["macro"]["f1"],
        "weighted_f1": each["weighted"]["f1"],
        "balanced_accuracy": each["macro"]["recall"],
    }


def averages(confusion: npt.ArrayLike) -> dict[str, dict[str, Floats]]:
    """Means over classes of precision, recall and F1: "macro" (each class counts alike) and "weighted" (by support).

    A class whose value is undefined is left out (scikit-learn's `zero_division=np.nan`); each value is (...).
    """
    each = per_class(confusion)
    names = ("precision", "recall", "f1")
    alike = np.ones_like(each["support"])
    return {
        "macro": {name: _mean(each[name], alike) for name in names},
        "weighted": {name: _mean(each[name], each["support"]) for name in names},
    }


def top_k_accuracy(labels: npt.ArrayLike, scores: npt.ArrayLike, k: int) -> float:
    """The share of images whose class, of labels (N,), is among the k of highest score (N, K).

    Of equal scores the earlier class ranks first, as with the class predicted.
    """
    values, actual = np.asarray(scores), np.asarray(labels)
    ranked = np.argsort(-values, axis=1, kind="stable")[:, :k]  # (N, k)
    return float((ranked == actual[:, None]).any(1).mean())


def _square(confusion: npt.ArrayLike) -> Floats:
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"wanted a confusion matrix of shape (..., K, K), got {counts.shape}")
    return counts


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: Floats, weights: Floats) -> Floats:
    """The weighted mean over the last axis of what is defined: (..., K), (..., K) -> (...)."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return _ratio((np.nan_to_num(values) * weights).sum(-1), weights.sum(-1))
