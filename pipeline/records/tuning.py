"""What the trials of a study came to, and what was chosen: reports/tuning.json, and a file for each trial."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.base.files import write_json
from pipeline.records.diary import Machine, read_record

TUNING = Path("reports/tuning.json")


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trial: what was tried, what validation says of it, and what it cost."""

    model: str
    trial: int
    seed: int
    settings: Mapping[str, Any]
    key: str  # the training's fingerprint
    val_macro_f1: float | None  # of the selected epoch; None where the training diverged
    epoch: int | None  # which is selected
    curve: Sequence[float | None]  # val_macro_f1 after each epoch
    seconds: float
    images: int  # that training saw, counted anew in each epoch
    flops: int  # of one image's forward pass
    machine: Machine
    reason: str = ""  # why there is no score

    @property
    def training_flops(self) -> float:
        """Of the whole training, backward passes taken as two forward ones."""
        return 3.0 * self.flops * self.images

    @classmethod
    def read(cls, path: Path) -> "TrialResult":
        return read_record(cls, path, f"run `dvc repro trial@{path.stem}` in the study's folder")

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Tuning:
    """All trials of the models that are tuned, and the number of the one that was chosen for each."""

    trials: Sequence[TrialResult]
    counted: Mapping[str, Sequence[int]]  # of a model's trials, those within the budget, in their order
    chosen: Mapping[str, int]
    finals: Sequence[TrialResult] = ()  # where trials were short: their best, trained in full

    def of(self, model: str) -> list[TrialResult]:
        """The trials of a model that count, in their order."""
        found = {each.trial: each for each in self.trials if each.model == model}
        return [found[number] for number in self.counted[model]]

    def finals_of(self, model: str) -> list[TrialResult]:
        """The trials of a model that were trained in full after a short one; none where there were no short ones."""
        return [each for each in self.finals if each.model == model]

    def all_of(self, model: str) -> list[TrialResult]:
        """Every training that a model's search took."""
        return [*self.of(model), *self.finals_of(model)]

    def best(self, model: str) -> TrialResult:
        """The trial that was chosen, as it was trained in full."""
        full = self.finals_of(model) or self.of(model)
        return next(each for each in full if each.trial == self.chosen[model])

    @classmethod
    def read(cls, path: Path = TUNING) -> "Tuning":
        """What the stage `choose` left; without it, no trials: reports of studies that are older have none."""
        if not path.exists():
            return NOT_TUNED
        return read_record(cls, path, "run `dvc repro -f choose` in the study's folder")

    def write(self, path: Path = TUNING) -> None:
        write_json(path, dataclasses.asdict(self))


NOT_TUNED = Tuning((), {}, {})


def choose(trials: Sequence[TrialResult], seconds: float | None = None, finals: Sequence[TrialResult] = ()) -> Tuning:
    """The best trial of each model by validation, the first of equals; of `finals`, where there are any.

    With a budget of `seconds` of training, those of a model's trials count that fit into it one after the other, the
    first in any case. Raises StageError where all that count diverged.
    """
    counted, chosen = dict[str, list[int]](), dict[str, int]()
    for model in dict.fromkeys(each.model for each in trials):
        within = affordable([each for each in trials if each.model == model], seconds)
        counted[model] = [each.trial for each in within]
        chosen[model] = ranked([each for each in finals if each.model == model] or within)[0].trial
    return Tuning(tuple(trials), counted, chosen, tuple(finals))


def ranked(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """One model's trials that did not diverge, the best by validation first; raises StageError where all did."""
    found = [each for each in trials if each.val_macro_f1 is not None]
    if not found:
        raise StageError(
            f"choose: all {len(trials)} trials of {trials[0].model} diverged ({trials[0].reason}); narrow tune.space"
        )
    return sorted(found, key=lambda each: -(each.val_macro_f1 or 0.0))


def affordable(trials: Sequence[TrialResult], seconds: float | None) -> list[TrialResult]:
    """The first trials that take no more than so many seconds of training together; one at least."""
    spent, found = 0.0, list[TrialResult]()
    for trial in trials:
        spent += trial.seconds
        if found and seconds is not None and spent > seconds:
            break
        found.append(trial)
    return found
