"""How sure a mean score is: 95% intervals over replicates, or over test images where there is one replicate.

Shapes: R replicates, K classes, B resamples.

The two answer different questions. Over replicates (Student t) the interval covers the luck of initialisation, order
and augmentation, with the test images fixed. Over test images (percentile bootstrap, Efron 1979) it covers the draw of
the test images, with the trained model fixed. Each interval says which it is.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.scoring.metrics import Floats, averages, per_class, score_arrays

Measure = Callable[[npt.ArrayLike], Mapping[str, Floats]]  # matrices (..., K, K) -> name -> (...)
LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval; `n` counts replicates, `basis` says what the interval is taken over.

    NaN stands for what is undefined: a mean that some replicate lacks, the ends where nothing varies.
    """

    mean: float
    low: float
    high: float
    n: int
    basis: Literal["replicates", "rounds", "test images"]

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The mean, the low and the high end."""
        return self.mean, self.low, self.high


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


def intervals(confusions: npt.ArrayLike, seed: int = 0, measure: Measure = score_arrays) -> dict[str, Interval]:
    """What `measure` says of one model with its interval, from its replicates' confusion matrices (R, K, K).

    Over replicates where R > 1, else over test images. Raises ValueError for a matrix without images.
    """
    counts = np.asarray(confusions)
    if counts.ndim != 3 or not len(counts) or not counts.any((1, 2)).all():
        raise ValueError(f"wanted confusion matrices (R, K, K) of at least one image, got shape {counts.shape}")
    if len(counts) == 1:
        return over_images(counts[0], seed, measure=measure)
    return {name: over_replicates(values) for name, values in measure(counts).items()}


def over_replicates(values: npt.ArrayLike, highest: float = 1.0, lowest: float = 0.0) -> Interval:
    """Student's t interval of the mean of values (R,), R > 1, clipped to what a score can be, or to other limits."""
    from scipy.special import stdtrit  # scipy.stats.t.ppf without the second that importing scipy.stats takes

    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2:
        raise ValueError(f"wanted two replicates or more, got {n}: their spread is what the interval is made of")
    mean = array.mean()
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * array.std(ddof=1) / np.sqrt(n)
    low, high = np.clip([mean - half, mean + half], lowest, highest)  # NaN stays NaN
    return Interval(float(mean), float(low), float(high), n, "replicates")


def over_images(
    confusion: npt.ArrayLike, seed: int = 0, resamples: int = RESAMPLES, measure: Measure = score_arrays
) -> dict[str, Interval]:
    """What `measure` says of one confusion matrix (K, K) with its percentile bootstrap interval over test images.

    Drawing N images with replacement and counting their cells is one draw of a multinomial with the matrix's shares:
    the bootstrap over images, exactly, without the images. Resamples in which a value is undefined (a class that none
    of the images drawn is of) do not count for it.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    rng = np.random.default_rng(seed)
    classes, images = len(counts), int(counts.sum())
    cells = np.flatnonzero(counts)  # the others stay 0 in every resample
    shares = counts.ravel()[cells] / images
    step = max(1, 2**22 // counts.size)  # matrices at once: 32 MiB, however many classes
    point = {name: float(value) for name, value in measure(counts).items()}
    found: dict[str, list[Floats]] = {name: [] for name in point}
    for start in range(0, resamples, step):
        drawn = np.zeros((min(step, resamples - start), counts.size), dtype=np.int64)  # (b, K * K)
        drawn[:, cells] = rng.multinomial(images, shares, size=len(drawn))
        for name, values in measure(drawn.reshape(-1, classes, classes)).items():
            found[name].append(values)
    tail = (1 - LEVEL) / 2
    result = {}
    for name, parts in found.items():
        values = np.concatenate(parts)  # (B,)
        defined = values[~np.isnan(values)]
        known = len(defined) and not math.isnan(point[name])
        low, high = np.quantile(defined, [tail, 1 - tail]) if known else (math.nan, math.nan)
        result[name] = Interval(point[name], float(low), float(high), 1, "test images")
    return result
