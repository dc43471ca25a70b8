"""Scores of whole probabilities, and what each test image does to them: Brier score, risk-coverage area, AUROC.

Shapes: N test images, K classes; `probabilities` (N, K), `labels` (N,). Probabilities that are NaN, of a training that
diverged, make NaN.

Each function returns a score and its influence (N,): by how much the score of many images would change if all were as
this one, to first order. It has mean 0, and its mean square over N is the variance of the score over test images (the
infinitesimal jackknife, Jaeckel 1972; of AUROC, DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44). From it come
the effective number of images that `intervals` want, and the luck with images that replicates have in common.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.scoring.calibration import Booleans, selective_accuracy
from pipeline.scoring.intervals import Interval, Scored
from pipeline.scoring.metrics import Floats

Labels = npt.NDArray[np.integer]
Influenced = tuple[float, Floats]  # a score, and the influence of each image on it (N,)
MISTAKES = 0.5  # that a loss is taken to have more than it has


def brier_score(probabilities: Floats, labels: Labels) -> Influenced:
    """Squared distance of probabilities to the label, summed over classes (Brier 1950): 0 is best, 2 worst."""
    target = np.zeros(probabilities.shape)
    target[np.arange(len(labels)), labels] = 1
    each = ((probabilities - target) ** 2).sum(1)  # (N,)
    return float(each.mean()), each - each.mean()


def risk_coverage_area(confidence: Floats, right: Booleans) -> Influenced:
    """The error on the images that a model is surest of, averaged over all shares of them (AURC).

    Geifman, Uziel and El-Yaniv 2019 (arXiv:1805.08206), eq. 2: low where errors are few, or a model is less sure of
    these. Equally sure images come in no order, as in `selective_accuracy`. An image of rank r counts with its error
    times the sum of 1 / i over i from r to N; by its place it moves the ranks of others.
    """
    images = len(confidence)
    if np.isnan(confidence).any():
        return np.nan, np.full(images, np.nan)
    ranks = np.arange(1, images + 1)
    area = float(1 - selective_accuracy(confidence, right, ranks / images).mean())
    _, place, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    rate = np.bincount(place, weights=~right) / count  # of error, of equally sure images
    later = np.cumsum((1 / ranks)[::-1])[::-1]  # the sum of 1 / i from each rank on
    passed = np.cumsum((rate[np.sort(place)] / ranks)[::-1])[::-1]
    weight, moved = (np.bincount(np.sort(place), weights=each) / count for each in (later, passed))
    influence = ~right * weight[place] - moved[place]
    return area, influence - influence.mean()


def auroc(scores: Floats, positive: Booleans) -> Influenced:
    """The probability that an image of a class has a higher score (N,) than one of another class; ties count half.

    NaN where all images are of the class, or none is.
    """
    images, ours = len(scores), int(positive.sum())
    others = images - ours
    if not ours or not others or np.isnan(scores).any():
        return np.nan, np.full(images, np.nan)
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    of_class = np.bincount(place, weights=positive)  # images of each score
    sides = (each.cumsum() - each / 2 for each in (count - of_class, of_class))  # as many are below, ties counting half
    above = np.where(positive, *(below[place] for below in sides))  # of an image, those of the other side
    part = np.where(positive, above / others, 1 - above / ours)  # (N,), each image's share of pairs in order
    area = float(part[positive].mean())
    return area, (part - area) * images / np.where(positive, ours, others)


def of_classes(probabilities: Floats, labels: Labels) -> list[Influenced]:
    """AUROC of each class against all others, by its own probability."""
    return [auroc(probabilities[:, k], labels == k) for k in range(probabilities.shape[1])]


def macro(parts: Sequence[Influenced]) -> Influenced:
    """The mean of those scores of classes that are defined; NaN where none is."""
    known = [each for each in parts if not np.isnan(each[0])]
    if not known:
        return parts[0]
    return float(np.mean([score for score, _ in known])), np.mean([influence for _, influence in known], axis=0)


def loss_interval(found: Sequence[Influenced], highest: float = 1.0, shared: float | None = None) -> Interval:
    """The mean of a loss, 0 to `highest`, of R replicates with its 95% interval: see `intervals`.

    Where few images have all of the loss, little is known of how it is spread: it is taken to have half a mistake more,
    the loss of which is exponential with mean 1. AURC's weights are, of ranks that are spread evenly. `shared` is the
    luck that replicates have in common, None what influences say.
    """
    images = len(found[0][1])
    share = (np.mean([score for score, _ in found]) + MISTAKES / images) / highest
    variance = (variance_of(found) + 2 * MISTAKES / images**2) / highest**2
    scaled = [(score / highest, influence) for score, influence in found]
    scored = _interval(scaled, float(share * (1 - share) / variance), shared)
    low, middle, high = (each * highest for each in (scored.low, scored.mean, scored.high))
    return Interval(middle, low, high, scored.n, scored.basis)


def area_interval(found: Sequence[Influenced], most: float, shared: float | None = None) -> Interval:
    """The mean of an AUROC of R replicates with its 95% interval; `most` images are what it rests on at most.

    Where few pairs are out of order, influences would have it rest on too many. `shared` is as of `loss_interval`.
    """
    area, variance = float(np.mean([score for score, _ in found])), variance_of(found)
    return _interval(found, min(area * (1 - area) / variance, most) if variance > 0 else most, shared)


def _interval(found: Sequence[Influenced], images: float, shared: float | None) -> Interval:
    common = shared_luck(np.array([influence for _, influence in found])) if shared is None else shared
    return Scored(np.array([score for score, _ in found]), images, common).interval


def variance_of(found: Sequence[Influenced]) -> float:
    """Of a score over test images, the mean of the replicates."""
    return float(np.mean([(influence**2).mean() / len(influence) for _, influence in found]))


def images_of_area(area: float, ours: float, others: float) -> float:
    """The effective number of images of an AUROC, so many being of the class and so many not.

    By the variance of exponential scores (Hanley and McNeil 1982, Radiology 143), with both numbers replaced by their
    mean (Newcombe 2006, Statistics in Medicine 25, method 5): it holds where no pair is out of order, too.
    """
    number = (ours + others) / 2
    return ours * others / (1 + (number - 1) * ((1 - area) / (2 - area) + area / (1 + area)))


def images_of_mean(numbers: Sequence[float]) -> float:
    """The effective number of images of a mean over classes, from each class's: variances add up, so few count most."""
    return len(numbers) ** 2 / sum(1 / each for each in numbers) if numbers else float("nan")


def shared_luck(influence: Floats) -> float:
    """The share, 0 to 1, of the luck with test images that replicates (R, N) have in common: their correlation."""
    replicates, own = len(influence), (influence**2).sum()
    if replicates == 1 or not own > 0:
        return 1.0
    return float(np.clip(((influence.sum(0) ** 2).sum() - own) / ((replicates - 1) * own), 0, 1))
