"""What features are worth as they are: linear, nearest-neighbour and few-shot classifiers on them.

Settings are chosen by macro-F1 on validation images, the first of equals; test images are scored once, by what was
chosen. Features are brought to mean 0 and deviation 1 by those of the training images.
Shapes: N images, D features, K classes.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.scoring import metrics
from pipeline.scoring.intervals import Interval, intervals, over_replicates
from pipeline.scoring.metrics import Floats

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # C of LogisticRegression, the strongest penalty first
NEIGHBOURS = (1, 5, 10, 20, 50)
DRAWS = 10  # of few images a class
STEPS = 1000  # of the solver


@dataclass(frozen=True)
class Split:
    """Features (N, D) of images and their labels (N,), 0 to K - 1."""

    features: Floats
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """What a probe learns from, chooses by and is scored on."""

    train: Split
    val: Split
    test: Split

    @property
    def classes(self) -> int:
        return int(max(each.labels.max() for each in (self.train, self.val, self.test))) + 1

    @property
    def scaled(self) -> "Splits":
        """The same with features of mean 0 and deviation 1 over the training images."""
        from sklearn.preprocessing import StandardScaler  # late: scikit-learn takes a second

        every = [Split(each.features.astype(np.float64), each.labels) for each in (self.train, self.val, self.test)]
        scaler = StandardScaler().fit(every[0].features)
        return Splits(*(Split(scaler.transform(each.features), each.labels) for each in every))


@dataclass(frozen=True)
class Probe:
    """One kind of classifier: what validation chose, and its score there and on the test images."""

    kind: str
    chosen: str
    val_macro_f1: float
    accuracy: Interval
    macro_f1: Interval


Classifier = Any  # scikit-learn's
Make = Callable[[Any], Classifier]


def linear(splits: Splits) -> Probe:
    """Multinomial logistic regression on all training images."""
    chosen, value, classifier = _best(splits.train, splits.val, _logistic, PENALTIES, splits.classes)
    return _scored("linear", f"C {value:g}", chosen, [classifier], splits)


def neighbours(splits: Splits) -> Probe:
    """The majority of the k training images whose features have the smallest angle to an image's."""
    counts = [k for k in NEIGHBOURS if k <= len(splits.train.labels)]
    chosen, value, classifier = _best(splits.train, splits.val, _nearest, counts, splits.classes)
    return _scored("nearest neighbours", f"k {value}", chosen, [classifier], splits)


def few_shot(splits: Splits, shots: int, seed: int = 0, draws: int = DRAWS) -> Probe | None:
    """Logistic regression on so many images of each class, drawn anew several times; None where a class has fewer.

    One penalty for all draws, by their mean on the validation images; the interval is over draws.
    """
    if np.bincount(splits.train.labels, minlength=splits.classes).min() < shots:
        return None
    drawn = [_few(splits.train, shots, np.random.default_rng([seed, draw])) for draw in range(draws)]
    tried = [[_fitted(_logistic(penalty), few) for few in drawn] for penalty in PENALTIES]
    means = [np.mean([_macro_f1(each, splits.val, splits.classes) for each in row]) for row in tried]
    best = int(np.argmax(means))
    kind = f"{shots} image{'s' * (shots > 1)} a class"
    return _scored(kind, f"C {PENALTIES[best]:g}", float(means[best]), tried[best], splits)


def _few(train: Split, shots: int, rng: np.random.Generator) -> Split:
    places = [
        rng.choice(np.flatnonzero(train.labels == label), shots, replace=False) for label in np.unique(train.labels)
    ]
    rows = np.concatenate(places)
    return Split(train.features[rows], train.labels[rows])


def _fitted(classifier: Classifier, split: Split) -> Classifier:
    """The classifier, fitted; one whose solver did not end is judged by its scores as any other."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(split.features, split.labels)


def _logistic(penalty: float) -> Classifier:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, max_iter=STEPS)


def _nearest(count: int) -> Classifier:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(count, metric="cosine")


def _best(train: Split, val: Split, make: Make, values: Iterable[Any], classes: int) -> tuple[float, Any, Classifier]:
    """The macro-F1 on validation images, the value and the classifier of the value that is best there."""
    tried = [(value, _fitted(make(value), train)) for value in values]
    scores = [_macro_f1(classifier, val, classes) for _, classifier in tried]
    best = int(np.argmax(scores))
    return scores[best], *tried[best]


def _macro_f1(classifier: Classifier, split: Split, classes: int) -> float:
    return metrics.scores(_confusion(classifier, split, classes))["macro_f1"]


def _confusion(classifier: Classifier, split: Split, classes: int) -> npt.NDArray[np.int64]:
    return metrics.confusion_matrix(split.labels, classifier.predict(split.features), classes)


def _scored(kind: str, chosen: str, val: float, classifiers: Sequence[Classifier], splits: Splits) -> Probe:
    """The probe with its test scores: over test images of one classifier, over draws of several."""
    confusions = np.stack([_confusion(each, splits.test, splits.classes) for each in classifiers])
    if len(classifiers) == 1:
        found = intervals(confusions)
        return Probe(kind, chosen, val, found["accuracy"], found["macro_f1"])
    every = [metrics.scores(each) for each in confusions]
    accuracy, macro_f1 = (over_replicates([each[name] for each in every]) for name in ("accuracy", "macro_f1"))
    return Probe(kind, chosen, val, accuracy, macro_f1)
