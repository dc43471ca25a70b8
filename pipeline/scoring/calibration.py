"""Whether a model's probabilities can be believed: calibration error, reliability, accuracy of what it is surest of.

Shapes: N test images; `confidence` (N,) is the probability of the predicted class, `right` (N,) whether it is correct.
NaN probabilities, of a training that diverged, make NaN.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from pipeline.scoring.metrics import Floats

BINS = 15
COVERAGE = 0.8
TEMPERATURES = (0.05, 20.0)  # least and greatest: images that are all right, or all wrong, have none that is best
Booleans = npt.NDArray[np.bool_]


def reliability(confidence: Floats, right: Booleans, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """Mean confidence, accuracy and share of the images (bins,) in bins of equal width, as in Guo et al. 2017.

    Bin m is ((m - 1) / bins, m / bins]. What a bin without images has is NaN, its share 0.
    """
    if np.isnan(confidence).any():
        return np.full(bins, np.nan), np.full(bins, np.nan), np.zeros(bins)
    place = np.digitize(confidence, np.arange(1, bins) / bins, right=True)  # (N,)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right.astype(np.float64)))
    sure, accuracy = (np.divide(each, count, out=np.full(bins, np.nan), where=count > 0) for each in sums)
    return sure, accuracy, count / len(confidence)


def calibration_error(confidence: Floats, right: Booleans, bins: int = BINS) -> float:
    """ECE (Guo et al. 2017, arXiv:1706.04599, eq. 3): the gap of confidence and accuracy, over bins."""
    if np.isnan(confidence).any():
        return math.nan
    sure, accuracy, share = reliability(confidence, right, bins)
    return float(np.nansum(share * np.abs(sure - accuracy)))


def selective_accuracy(confidence: Floats, right: Booleans, coverage: npt.ArrayLike = COVERAGE) -> Floats:
    """Accuracy on the share of images that the model is surest of, for each of `coverage` (C,) above 0 -> (C,).

    Equally sure images come in no order: each counts with the accuracy of all of them (Geifman and El-Yaniv 2017,
    arXiv:1705.08500, leave it to chance).
    """
    kept = np.ceil(np.asarray(coverage) * len(confidence) - 1e-9).astype(int)
    if np.isnan(confidence).any():
        return np.full(kept.shape, np.nan)
    _, place, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = (np.bincount(place, weights=right) / count)[np.sort(place)]  # (N,), the surest first
    return np.cumsum(expected)[kept - 1] / kept


def log_loss(logits: Floats, labels: npt.NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats of labels (N,), of logits (N, K) divided by the temperature."""
    scaled = log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return float(-scaled[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Floats, labels: npt.NDArray[np.integer]) -> float:
    """The temperature with the least log loss on validation images (Guo et al. 2017, section 4.2), within TEMPERATURES.

    logits (N, K), labels (N,). Logits that are not finite give NaN.
    """
    if not np.isfinite(logits).all():
        return math.nan
    low, high = (math.log(1 / bound) for bound in reversed(TEMPERATURES))  # convex in 1/T
    found = minimize_scalar(lambda log: log_loss(logits, labels, math.exp(-log)), bounds=(low, high), method="bounded")
    return math.exp(-found.x)


def believed(
    validation: tuple[Floats, npt.NDArray[np.integer]] | None, logits: Floats, labels: npt.NDArray[np.integer]
) -> dict[str, float | None]:
    """Log loss and ECE on test images before and after a temperature; undefined is None.

    The temperature is that of the logits (M, K) and labels (M,) of `validation`; without them there is none.
    """
    temperature = fit_temperature(*validation) if validation is not None else math.nan
    found = {"temperature": temperature}
    for suffix, divisor in (("", 1.0), ("_scaled", temperature)):
        sure = np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / divisor, axis=1))
        found["log_loss" + suffix] = log_loss(logits, labels, divisor)
        found["calibration_error" + suffix] = calibration_error(sure.max(1), logits.argmax(1) == labels)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}
