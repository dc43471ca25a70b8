"""What was found out about a study: what its stages left, read and checked, and what several sections want of it.

Shapes: R replicates, N test images, K classes.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.base.quantities import enumerated, in_units
from pipeline.params import registry
from pipeline.params.study import Params
from pipeline.records.checkup import Checkup
from pipeline.records.corruptions import Corrupted
from pipeline.records.dataset import Dataset
from pipeline.records.evaluation import Evaluation
from pipeline.records.explanations import Explanations
from pipeline.records.labels import LabelCheck
from pipeline.records.latency import Timing
from pipeline.records.looks import Earlier
from pipeline.records.registration import Registration
from pipeline.records.tuning import NOT_TUNED, Tuning
from pipeline.report.drawing import colours
from pipeline.report.words import counted, setting
from pipeline.scoring import metrics, pairs
from pipeline.scoring.draws import UNTESTED, Draws, side_by_side
from pipeline.scoring.effective import luck_of, shared_luck
from pipeline.scoring.intervals import Interval, Scored, of_shares, scored
from pipeline.scoring.pairs import Pair


@dataclass(frozen=True)
class Model:
    """What the stages left of one model: one entry per replicate."""

    name: str
    evaluations: tuple[Evaluation, ...]
    histories: tuple[pd.DataFrame, ...]
    confusions: npt.NDArray[np.int64]  # (R, K, K)
    actual: npt.NDArray[np.int64]  # (N,), or (R, N)
    predicted: npt.NDArray[np.int64]  # (R, N)
    confidence: npt.NDArray[np.float64]  # (R, N), the probability of the predicted class
    probabilities: npt.NDArray[np.float32] | None = None  # (R, N, K); None where those of some classes are not kept
    images: tuple[str, ...] = ()  # (N,), names of files; none in predictions of earlier versions, and with `own_images`
    rounds: tuple[Timing, ...] = ()  # what latency measured; none where it has not run
    together: npt.NDArray[np.int64] | None = None  # (N,), what all replicates predict together: see scoring/ensemble.py
    folds: bool = False  # whether each replicate is a fold: `actual` then holds all folds' images, each predicted once
    own_images: npt.NDArray[np.str_] | None = (
        None  # (R, N), their names where each replicate has its own; `actual` is (R, N) then
    )
    splits: npt.NDArray[np.int64] | None = None  # (R,), which each replicate has where several share one of their own
    teacher_seconds: float = 0.0  # of the trainings that teach one of this model, together; their mean over replicates

    @property
    def first(self) -> Evaluation:
        """The evaluation of the first replicate: what it says of the network and its settings holds for all."""
        return self.evaluations[0]

    @property
    def replicates(self) -> int:
        return len(self.evaluations)

    @property
    def runs(self) -> int:
        """How many times each test image was predicted."""
        return len(self.predicted)

    @property
    def tested(self) -> int:
        """How many test images there are, of a replicate where each has its own."""
        return self.actual.shape[-1]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        return self.predicted == self.actual  # (R, N)

    @property
    def redrawn(self) -> float:
        """Test images over training images, where each replicate has test images of its own; 0 where all share them."""
        return 1 / (self.replicates - 1) if self.folds else 0.0

    @functools.cached_property
    def shared(self) -> float:
        """The share of the luck with test images that replicates have in common."""
        return 1.0 if self.folds or self.own_images is not None else shared_luck(self.right)

    @functools.cached_property
    def scored(self) -> Mapping[str, Scored]:
        """All that a classification report says, of each replicate, by the names of `intervals.report_arrays`."""
        classes = range(self.confusions.shape[-1])
        alike = self.actual.ndim == 1 and not self.folds
        of_classes = [luck_of(self.right[:, self.actual == k], self.shared) for k in classes] if alike else []
        return scored(self.confusions, self.shared, self.redrawn, of_classes, self.splits)

    @functools.cached_property
    def intervals(self) -> Mapping[str, Interval]:
        """The same as means with intervals."""
        return {name: each.interval for name, each in self.scored.items()}

    @property
    def scores(self) -> Mapping[str, Interval]:
        """Accuracy, macro-F1, weighted F1 and balanced accuracy."""
        return {name: self.intervals[name] for name in metrics.SCORES}

    @functools.cached_property
    def measures(self) -> dict[str, Interval]:
        """Accuracy, top-5 accuracy where there are more classes than five, macro precision, recall and F1."""
        found = {f"macro_{name}": self.intervals[f"{name}/macro"] for name in ("precision", "recall", "f1")}
        accuracy = {"accuracy": self.intervals["accuracy"]}
        hits = [evaluation.scores.get("top5_accuracy") for evaluation in self.evaluations]
        if None in hits:
            return accuracy | found
        top = of_shares(np.array(hits, dtype=np.float64), self.tested, redrawn=self.redrawn)
        return accuracy | {"top5_accuracy": top} | found

    @property
    def validated(self) -> bool:
        """Whether it was trained without the validation images."""
        return not self.first.config["train"].get("include_validation")

    @property
    def views(self) -> int:
        """How many views of an image are scored together."""
        return self.first.config["augment"].get("test_crops", 1)

    @property
    def overrides(self) -> str:
        """Settings of this model's own, techniques within its network first; empty where it has none."""
        network = self.first.config["model"]
        own = {key: network[key] for key in registry.TECHNIQUES if network.get(key)} | self.first.overrides
        return setting(own) if own else ""

    @property
    def teacher(self) -> str:
        """The model that taught this one; empty where none did."""
        return self.first.config["train"].get("teacher") or ""

    @property
    def taught_by_all(self) -> bool:
        """Whether all replicates of the teacher taught each of this model's, rather than the one of its number."""
        return self.first.config["train"].get("teacher_replicates") == "all"

    @property
    def taught(self) -> str:
        """by cnn, its replicate of the same number (weight 0.5, temperature 2); empty where it had no teacher."""
        if not self.teacher:
            return ""
        train = self.first.config["train"]
        which = "all its replicates together" if self.taught_by_all else "its replicate of the same number"
        weight, temperature = train["teacher_weight"], train["teacher_temperature"]
        return f"by {self.teacher}, {which} (weight {weight:g}, temperature {temperature:g})"

    @property
    def n(self) -> str:
        """n = 5 folds"""
        return f"n = {self.repeated}"

    @property
    def repeated(self) -> str:
        """5 folds, 1 replicate"""
        return counted(self.replicates, "fold" if self.folds else "replicate")

    # seconds

    @property
    def train_seconds(self) -> list[float]:
        return [evaluation.cost.train_seconds for evaluation in self.evaluations]

    @property
    def mean_train_seconds(self) -> float:
        """What a training takes, with those of its teachers."""
        return float(np.mean(self.train_seconds)) + self.teacher_seconds

    def taken(self, name: str) -> list[float]:
        """What each training took, by the names of `Cost`; empty where some have not measured it."""
        values = [getattr(evaluation.cost, name) for evaluation in self.evaluations]
        return [] if None in values else values

    @property
    def energy(self) -> str:
        """1.23 kJ (processor): of a training in the mean; empty where it was not measured."""
        parts = {"processor": self.taken("processor_joules"), "GPU": self.taken("gpu_joules")}
        known = {name: float(np.mean(values)) for name, values in parts.items() if values}
        return f"{in_units(sum(known.values()), 'J')} ({enumerated(list(known))})" if known else ""

    @functools.cached_property
    def timings(self) -> tuple[Timing, ...]:
        """Milliseconds on the CPU: latency's rounds, or what evaluations measured before there was such a stage."""
        return self.rounds or tuple(evaluation.timing() for evaluation in self.evaluations)

    @property
    def timed_over(self) -> str:
        """n = 5 rounds, in which the models took turns"""
        return f"n = {counted(len(self.rounds), 'round')}, in which the models took turns" if self.rounds else self.n

    @property
    def cpu_milliseconds(self) -> list[float]:
        """For an image in batches, one for each timing; empty where it was not measured."""
        every = [each.cpu_ms_per_image for each in self.timings]
        known = [each for each in every if each is not None]
        return known if len(known) == len(every) else []

    @property
    def cpu_seconds(self) -> list[float]:
        """Of a forward pass over all test images, one for each timing; empty where it was not measured."""
        return [each / 1000 * self.tested for each in self.cpu_milliseconds]


@dataclass(frozen=True)
class Found:
    """All that a report is made of; every section gets it."""

    study: str
    settings: Params
    data: Dataset
    models: tuple[Model, ...]
    checkup: Checkup
    augmentation: bytes  # a PNG
    explanations: Explanations | None  # None where explain has not run
    labels: LabelCheck | None = None  # None where labels has not run
    labels_sheet: bytes = b""  # a JPEG, the tiles that labels name
    sheet: bytes = b""  # a JPEG, the tiles that explanations name
    tuning: Tuning = NOT_TUNED
    earlier: Earlier | None = None  # looks at the test images; None where the record does not know those shown here
    registration: Registration | None = None  # None where nothing was registered
    corrupted: Mapping[str, tuple[Corrupted, ...]] = field(default_factory=dict)  # by model; none unless asked for

    @property
    def first(self) -> Model:
        """The first model: what it says of images and replicates holds for all."""
        return self.models[0]

    @property
    def names(self) -> list[str]:
        """The models, in the order of params.yaml."""
        return [model.name for model in self.models]

    @property
    def colours(self) -> dict[str, str]:
        """Each model's colour."""
        return colours(self.names)

    @property
    def ranking(self) -> list[str]:
        """Names, the highest mean macro-F1 first."""
        return [model.name for model in sorted(self.models, key=lambda model: -model.scores["macro_f1"].mean)]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those of all models."""
        return [evaluation for model in self.models for evaluation in model.evaluations]

    @property
    def images(self) -> int:
        """How many test images there are."""
        return self.first.tested

    @property
    def replicates(self) -> int:
        """How many trainings there are of each model."""
        return self.first.replicates

    @property
    def unit(self) -> str:
        """What a replicate is called."""
        return "fold" if self.first.folds else "replicate"

    @property
    def unvalidated(self) -> list[str]:
        """The models that were trained on the validation images too."""
        return [model.name for model in self.models if not model.validated]

    @property
    def timed(self) -> bool:
        """Whether a forward pass on the CPU was timed of every model."""
        return all(model.cpu_milliseconds for model in self.models)

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of models, compared; none where there is one model."""
        (actual, guesses), draws = self.answers, self.draws
        if self.first.folds:
            folds = np.repeat(np.arange(self.replicates), self.first.confusions.sum((1, 2)))  # (N,), of each image
            own = folds == np.arange(self.replicates)[:, None]  # (R, N)
            guesses = {name: np.where(own, guess, UNTESTED) for name, guess in guesses.items()}
            draws = Draws(np.arange(self.replicates), self.first.redrawn, test=True)
        return pairs.compare(actual, guesses, len(self.data.names), draws=draws)

    @property
    def answers(self) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
        """Labels (N,) of all test images and what each model predicts (R, N), UNTESTED where it was not asked."""
        first, predicted = self.first, np.array([model.predicted for model in self.models])  # (M, R, N)
        if first.own_images is None:
            return first.actual, dict(zip(self.names, predicted, strict=True))
        labels, joined = side_by_side(first.own_images, first.actual, predicted)
        return labels, dict(zip(self.names, joined, strict=True))

    @property
    def draws(self) -> Draws | None:
        """The splits of the replicates; None where there is one, or folds."""
        own = {each.replicate: each for each in self.data.replicates}
        if self.data.vary == "none" or not own:
            return None
        images = [own[evaluation.replicate] for evaluation in self.first.evaluations]
        split = np.unique([each.split for each in images], return_inverse=True)[1]
        if not split.any():
            return None
        test = self.data.vary == "split"
        return Draws(split, max((each.test if test else each.val) / each.train for each in images), test)

    @property
    def covered(self) -> str:
        """What verdicts hold over: seeds, splits and test images."""
        if self.first.folds:
            return "folds and test images"
        varied = ["seeds"] * (self.first.runs > 1) + ["splits"] * (self.draws is not None) + ["test images"]
        return enumerated(varied)

    # what captions say

    @property
    def title(self) -> str:
        """The data set as captions name it: a variant always says so."""
        return f"{self.data.title} ({self.data.variant})" if self.data.variant else self.data.title

    @property
    def tested(self) -> str:
        """Digits, 360 test images"""
        folds = ", each in its fold's model" if self.first.folds else ""
        own = f" of each of {self.draws.splits} splits" if self.draws and self.draws.test else ""
        return f"{self.title}, {counted(self.images, 'test image')}{folds}{own}"

    @property
    def basis(self) -> str:
        """What the intervals are taken over."""
        if self.first.folds:
            return f"95% intervals over {self.first.n} (Student t, corrected for the training images that folds share)"
        if self.replicates > 1:
            return f"95% intervals over {self.first.n} and test images (Student t and Clopper-Pearson)"
        return "95% intervals over test images (Clopper-Pearson; n = 1 replicate)"

    @property
    def taken_over(self) -> str:
        """What numbers are of that have intervals over replicates alone."""
        if self.first.runs == 1:
            return f"{self.first.n}, without intervals"
        return f"means with 95% intervals over {self.first.n} (Student t)"

    @property
    def places(self) -> str:
        """The devices and precisions of all trainings."""
        return each_once(f"{each.machine.device} in {each.machine.precision}" for each in self.evaluations)

    @property
    def timed_on(self) -> str:
        """AMD EPYC, 2 cores; 1 and 2 threads: what the latencies were measured on."""
        timings = [each for model in self.models for each in model.timings]
        threads = sorted({each.cpu_threads for each in timings if each.cpu_threads is not None})
        counts = enumerated([str(count) for count in threads])
        return f"{each_once(sorted(each.processor for each in timings))}; {counts} thread{'s' * (threads != [1])}"


def each_once(texts: Iterable[str]) -> str:
    """Texts in their order, each named once: a, b and c."""
    return enumerated(list(dict.fromkeys(texts)))
