"""The trials of a study, drawn before any of them runs: the same params.yaml gives the same list.

Points of a sequence in the unit cube, by Optuna's samplers: Sobol's with Owen's scrambling (Sobol 1967, Owen 1998), or
independent ones (Bergstra and Bengio 2012, https://www.jmlr.org/papers/v13/bergstra12a.html). Models that search the
same space get the same points, and all of one number train from the same seed: nobody is luckier than another.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import StageError
from pipeline.params.faults import model_faults
from pipeline.params.read import load_params
from pipeline.params.settings import Dimension
from pipeline.params.study import Params

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 4  # of numbers that are drawn
RESULTS, FINALS, CHOSEN = Path("data/trials"), Path("data/finalists"), Path("data/chosen")
DRAWN, PROMOTED = RESULTS / "drawn", FINALS / "promoted"


@dataclass(frozen=True)
class Trial:
    """One point of a model's space, and the seed of its training."""

    model: str
    number: int  # of the sequence
    seed: int
    settings: Mapping[str, Any]  # named as in `tune.space`
    epochs: int | None = None  # of a short one

    @property
    def name(self) -> str:
        return f"{self.model}-{self.number}"

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Trial":
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise StageError(f"{path}: cannot be read; run `dvc repro -f check` in the study's folder") from None


def drawn(params: Params, name: str) -> list[Trial]:
    """The trials of a model, in the order of `tune.trials`; none of one that is not tuned.

    Raises StageError for a point that the model cannot take.
    """
    if not params.tuned(name):
        return []
    points = sequence(params.space(name), params.tune.sampler, params.tune.seed, 1 + max(params.tune.trials))
    epochs = params.tune.short_epochs if params.tune.finalists else None
    trials = [Trial(name, each, seed(params.tune.seed, each), points[each], epochs) for each in params.tune.trials]
    faults = [f"tune: trial {trial.number}: {fault}" for trial in trials for fault in refused(params, trial)]
    if faults:
        raise StageError("\n".join(f"params.yaml: {fault}; narrow the space" for fault in faults))
    return trials


def sequence(space: Mapping[str, Dimension], sampler: str, seed: int, count: int) -> list[dict[str, Any]]:
    """The first points of a space; a longer sequence begins as a shorter one does."""
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import QMCSampler, RandomSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        samplers = {"quasirandom": QMCSampler(scramble=True, seed=seed), "random": RandomSampler(seed=seed)}
    study = optuna.create_study(sampler=samplers[sampler])
    distributions = {key: distribution(dimension) for key, dimension in space.items()}
    points = [study.ask(distributions).params for _ in range(1 + count)]  # of Sobol's the first is a random one
    return [{key: value(space[key], point[key]) for key in space} for point in points[1:]]


def distribution(dimension: Dimension) -> "BaseDistribution":
    """What Optuna draws from; of a choice it draws the place, for its own choices are numbers and text alone."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if dimension.choice:
        return IntDistribution(0, len(dimension.choice) - 1)
    low, high = dimension.ends
    if dimension.integer:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=dimension.log_uniform is not None)


def value(dimension: Dimension, found: float) -> Any:
    """A setting's value from what was drawn; a number with a few digits, within its ends."""
    if dimension.choice:
        return dimension.choice[int(found)]
    if dimension.integer:
        return int(found)
    low, high = dimension.ends
    return min(max(float(f"{found:.{DIGITS}g}"), low), high)


def seed(of_study: int, number: int) -> int:
    """The seed that all trials of one number train from; no replicate's, but for a chance of one in four billion."""
    return int(np.random.SeedSequence([of_study, number]).generate_state(1)[0])


def refused(params: Params, trial: Trial) -> list[str]:
    """Why a model cannot be trained by a trial's settings, a line for each reason."""
    try:
        return model_faults(by_trial(params, trial), trial.model)
    except StageError as error:
        return [line.removeprefix("params.yaml: ") for line in str(error).splitlines()]


def by_trial(params: Params, trial: Trial) -> Params:
    """The study by the settings of a trial; its validation images choose, so that they are not trained on."""
    changed = params.having(trial.model, trial.settings)
    if changed.model_train(trial.model).include_validation:
        changed = changed.having(trial.model, {"train.include_validation": False})
    return changed.shortened(trial.model, trial.epochs) if trial.epochs else changed


def tuned_params(*models: str) -> Params:
    """params.yaml with what the trials chose for some models, or for all.

    Raises StageError where nothing is chosen yet.
    """
    params = load_params()
    for name in models or tuple(params.models):
        if params.tuned(name):
            params = params.having(name, chosen(name))
    return params


def chosen(name: str) -> dict[str, Any]:
    """The settings that the stage `choose` left for a model."""
    path = CHOSEN / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StageError(f"{path}: not there or not JSON; run `dvc repro choose` in the study's folder") from None
    return dict(found)
