"""Settings that were tried beside the commit's own: what they change, and what choosing the best of them adds.

Shapes: R replicates, N test images.

- Test scores: the paired difference of `pairs`, over seeds and test images.
- Validation scores: Student's t of the R differences of one seed each, none with one replicate.
- With folds or with splits of each replicate's own there is neither: differences are not independent then. Nor is there
  one where the settings draw other images than the commit's: differences are not paired by images then.
- Both are corrected (Holm 1979) for all settings of all models that were tried.
- The best of k validation scores is too high: were all as good, the highest would on average lie E[max of k normals]
  standard errors above what it is worth. A difference of two settings has twice the variance that one has by itself.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.records.predictions import Predictions
from pipeline.scoring import pairs
from pipeline.scoring.ablation import Experiment, Settings, Tried, tried, validation
from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats


@dataclass(frozen=True)
class Replicate:
    """What one training scored on validation images, and said of test images; None where that is not known."""

    validation: float | None
    predictions: Predictions | None


@dataclass(frozen=True)
class Change:
    """A difference of mean scores, tried less the commit's own, with its 95% interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    holm: float = math.nan


Replicates = Mapping[int, Replicate]
Read = Callable[[str], Mapping[str, Replicates]]  # revision -> of each model


@dataclass(frozen=True)
class Compared:
    """Settings that were tried for a model, beside the commit's own; `n` seeds were compared."""

    tried: Tried
    validation: Change
    test: Change
    n: int


@dataclass(frozen=True)
class Comparison:
    """All that was tried; `excess` is by how much the best validation score of a model may be too high."""

    every: tuple[Compared, ...]
    excess: Mapping[str, float]

    def number(self, model: str) -> int:
        """How many settings were tried for a model."""
        return sum(each.tried.model == model for each in self.every)


def compare(base: Experiment, experiments: Sequence[Experiment], read: Read) -> Comparison:
    """Every setting that was tried beside the commit's own, each once for each model."""
    read, every = functools.cache(read), tried(base, experiments)
    tests, validations, differences, numbers = [], [], [], []
    for each in every:
        ours = read(each.experiments[0].revision).get(each.model, {})
        own = read(base.revision).get(each.model, {})
        before = base.models[each.model]
        alike = same_images(base.settings) and same_images(each.experiments[0].settings)
        by_seed = differences_by_seed(ours, own) if alike and not draws_others(each) else np.array([])
        differences.append(by_seed)
        numbers.append(len(ours.keys() & own.keys()))
        validations.append(on_validation(validation(each.results)["mean"] - validation(before)["mean"], by_seed))
        on_tests = each.results["macro_f1"]["mean"] - before["macro_f1"]["mean"]
        tests.append(on_test(on_tests, ours, own) if alike else Change(on_tests))
    found = zip(every, corrected(validations), corrected(tests), numbers, strict=True)
    return Comparison(
        tuple(Compared(*each) for each in found),
        {
            model: excess([d for each, d in zip(every, differences, strict=True) if each.model == model])
            for model in {each.model: None for each in every}
        },
    )


def same_images(settings: Settings) -> bool:
    """Whether all replicates of a study have the same images."""
    return not settings.get("split.folds") and settings.get("split.vary", "none") == "none"


def draws_others(each: Tried) -> bool:
    """Whether validation images are other than the commit's."""
    return any(key.startswith(("split.", "dataset.name", "dataset.source")) for key in each.changed)


def on_test(value: float, tried: Replicates, own: Replicates) -> Change:
    """Of macro-F1 on test images; without an interval unless all replicates have the same test images."""
    answers = [(tried[number].predictions, own[number].predictions) for number in sorted(tried.keys() & own.keys())]
    known = [(ours, theirs) for ours, theirs in answers if ours is not None and theirs is not None]
    if not known or len(known) < len(answers):
        return Change(value)
    first = known[0][0]
    if not all(_same_images(first, each) for both in known for each in both):
        return Change(value)
    predicted = {
        "tried": np.array([ours.predicted for ours, _ in known]),
        "own": np.array([theirs.predicted for _, theirs in known]),
    }
    (pair,) = pairs.compare(first.actual, predicted, len(first.classes))
    found = pair.differences["macro_f1"]
    return Change(found.value, found.low, found.high, found.p)


def _same_images(first: Predictions, other: Predictions) -> bool:
    return (
        first.classes == other.classes
        and np.array_equal(first.actual, other.actual)
        and (first.images is None or other.images is None or first.images == other.images)
    )


def differences_by_seed(tried: Replicates, own: Replicates) -> Floats:
    """Of each seed that both have (R,); none where one has no validation score."""
    scores = [(tried[number].validation, own[number].validation) for number in sorted(tried.keys() & own.keys())]
    known = [ours - theirs for ours, theirs in scores if ours is not None and theirs is not None]
    return np.array(known if len(known) == len(scores) else [], dtype=np.float64)


def on_validation(value: float, differences: Floats) -> Change:
    """Of macro-F1 on validation images, from each seed's difference (R,); without an interval where these are equal."""
    if len(differences) < 2:
        return Change(value)
    if np.ptp(differences) < 1e-12:
        return Change(float(differences.mean()))
    from scipy.stats import ttest_1samp

    found = ttest_1samp(differences, 0.0)
    low, high = found.confidence_interval(LEVEL)
    return Change(float(differences.mean()), float(low), float(high), float(found.pvalue))


def corrected(changes: Sequence[Change]) -> list[Change]:
    """The same with p adjusted (Holm) for as many as have one."""
    known = [index for index, each in enumerate(changes) if not math.isnan(each.p)]
    adjusted = dict(zip(known, pairs.holm([changes[index].p for index in known]), strict=True)) if known else {}
    return [replace(each, holm=float(adjusted.get(index, math.nan))) for index, each in enumerate(changes)]


def excess(differences: Sequence[Floats]) -> float:
    """By how much the best of a model's mean validation scores is too high, were all settings as good as the commit's.

    `differences` has those of each setting that was tried, by seed (R,); the commit's own is one to choose from too.
    NaN where seeds were not varied. Luck with the validation images, which comes on top, is not in it.
    """
    errors = [each.var(ddof=1) / len(each) / 2 for each in differences if len(each) > 1]
    return math.sqrt(np.mean(errors)) * highest_of(len(differences) + 1) if errors else math.nan


def highest_of(number: int) -> float:
    """The mean of the highest of so many standard normal draws: 0, 0.564, 0.846, 1.029, ... (Harter 1961)."""
    from scipy.special import ndtr

    x = np.linspace(0.0, 9.0, 9001)
    return float(np.trapezoid(1 - ndtr(x) ** number - ndtr(-x) ** number, x))
