"""One trial: a training by settings that were drawn, of which its validation scores are kept and nothing else."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from pipeline.inference import forward
from pipeline.records.tuning import TrialResult
from pipeline.training import distributed, session
from pipeline.training.record import DivergedError, Fit


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What is tried of a model."""

    assignment: session.Assignment
    number: int
    settings: Mapping[str, Any]  # named as in `tune.space`
    final: bool = False  # in full, after a short trial of the same settings

    @property
    def name(self) -> str:
        return f"{self.assignment.config['model']} {'finalist' if self.final else 'trial'} {self.number}"


def attempt(what: Attempt, opened: session.Opened) -> TrialResult | None:
    """Train and return what validation says; None in a process of a group that is not the first.

    `opened` is as in `session.train`. A trial that was killed goes on; one that diverges has no score.
    """
    training = session.begun(what.assignment)
    if distributed.rank() > 0:
        undisturbed(training)
        return None
    config = {**training.config, "tuning": {"trial": what.number}}
    with session.under_way(training, what.name, config, what.assignment.source, opened) as (kept, tracked):
        begun = time.perf_counter()
        try:
            result = scored(what, training, session.fitted(training, what.name, kept, tracked))
        except DivergedError as error:
            result = diverged(what, training, error, time.perf_counter() - begun)
        tracked.settle()
        tracked.metrics(measured(result))
    return result


def undisturbed(training: session.Training) -> None:
    """Take part in a training, which may diverge: the first process says so."""
    try:
        training.trainer().run()
    except DivergedError:
        return


def scored(what: Attempt, training: session.Training, fit: Fit) -> TrialResult:
    """The result of a training that came to its end."""
    return TrialResult(
        **of(what, training),
        val_macro_f1=fit.selected.val_macro_f1,
        epoch=fit.selected.epoch,
        curve=[epoch.val_macro_f1 for epoch in fit.history],
        seconds=fit.seconds,
        images=len(training.task.train_images) * len(fit.history),
    )


def diverged(what: Attempt, training: session.Training, error: DivergedError, seconds: float) -> TrialResult:
    """The result of a training whose numbers are finite no more; what it cost until then counts."""
    return TrialResult(
        **of(what, training),
        val_macro_f1=None,
        epoch=None,
        curve=[],
        seconds=seconds,
        images=len(training.task.train_images) * error.epoch,
        reason=str(error),
    )


def of(what: Attempt, training: session.Training) -> dict[str, Any]:
    """What a result says of its training, whatever came of it."""
    return {
        "model": training.config["model"],
        "trial": what.number,
        "seed": training.config["replicate"],
        "settings": what.settings,
        "key": training.key,
        "flops": forward.flops(training.task.network, training.task.recipe.format),
        "machine": training.machine,
    }


def measured(result: TrialResult) -> dict[str, float | None]:
    """A result's numbers, as metrics are called in MLflow."""
    return {
        "selected_val_macro_f1": result.val_macro_f1,
        "selected_epoch": result.epoch,
        "train_seconds": result.seconds,
        "train_flops": result.training_flops,
    }
