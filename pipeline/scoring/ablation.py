"""Experiments by the settings that they change: axes, grids and main effects, each as a model sees it.

A model sees of an experiment the settings that can change it: its own, and shared ones that it does not set for itself.
Experiments in which it sees the same are one setting, tried once.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

COMMAND = "dvc exp run"

Settings = Mapping[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class Experiment:
    name: str  # empty for the commit itself
    changed: Settings  # what differs from the commit
    models: Mapping[str, Mapping[str, Any]]  # of metrics.json
    settings: Settings = field(default_factory=dict)  # all that it was run with
    revision: str = ""

    @property
    def command(self) -> str:
        if not self.name:
            return "dvc repro"
        return " ".join(
            [COMMAND, *(f"-S {shlex.quote(f'{key}={as_given(self.changed[key])}')}" for key in self.changed)]
        )


@dataclass(frozen=True)
class Score:
    mean: float
    low: float
    high: float
    n: int  # replicates

    @property
    def numbers(self) -> tuple[float, float, float]:
        return self.mean, self.low, self.high


@dataclass(frozen=True)
class Point:
    """One value of an axis for one model."""

    value: Any
    model: str
    validation: Score
    test: Score
    experiments: tuple[str, ...]  # those that agree in all settings; empty for the commit itself
    command: str


@dataclass(frozen=True)
class Effect:
    """One value of one setting of a grid: means over all of the grid's points that have it."""

    key: str
    value: Any
    model: str
    validation: float
    test: float
    points: int


@dataclass(frozen=True)
class Grid:
    keys: tuple[str, ...]
    effects: tuple[Effect, ...]
    found: int  # combinations of values that were run
    possible: int


# what a model sees


@dataclass(frozen=True)
class Tried:
    """Settings other than the commit's that a model was trained with, and the experiments that did so."""

    model: str
    changed: Settings
    experiments: tuple[Experiment, ...]  # that with the fewest other changes first

    @property
    def results(self) -> Mapping[str, Any]:
        """Of metrics.json."""
        return self.experiments[0].models[self.model]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.experiments)


def touches(key: str, model: str, settings: Settings) -> bool:
    """Whether a setting can change what a model scores."""
    part, _, rest = key.partition(".")
    first, _, second = rest.partition(".")
    if part == "models":
        return first == model
    if part == "tune" and first in ("models", "families"):
        return second.split(".")[0] in (model, settings.get(f"models.{model}.family"))
    own = f"models.{model}.{part}.{first}"
    set_for_itself = part in ("train", "augment") and any(
        each == own or each.startswith(f"{own}.") for each in settings
    )
    return part not in ("corruptions", "evaluate", "launch", "verdict") and not set_for_itself


def tried(base: Experiment, experiments: Sequence[Experiment]) -> list[Tried]:
    """All that was tried, model by model, each setting once."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Experiment]] = {}
    for each in sorted(experiments, key=lambda each: len(each.changed)):
        for model in (name for name in base.models if name in each.models):
            if changed := _seen(model, each):
                identity = tuple((key, _identity(value)) for key, value in changed.items())
                groups.setdefault((model, identity), []).append(each)
    order = list(base.models)
    return [
        Tried(model, _seen(model, group[0]), tuple(group))
        for (model, _), group in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    ]


def _seen(model: str, experiment: Experiment) -> dict[str, Any]:
    return {key: value for key, value in experiment.changed.items() if touches(key, model, experiment.settings)}


def _identity(value: Any) -> str:
    """The same text for the same value: 4 and 4.0 are one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if number else as_given(value)


# axes and grids


def axes(base: Experiment, experiments: Sequence[Experiment]) -> dict[str, list[Point]]:
    """Setting -> its points, the commit's own value among them, by model and value; of what changes it alone."""
    alone: dict[str, list[Tried]] = {}
    for each in tried(base, experiments):
        if len(each.changed) == 1:
            (key,) = each.changed
            alone.setdefault(key, []).append(each)
    return {key: points(key, base, alone[key]) for key in sorted(alone)}


def points(key: str, base: Experiment, varied: Sequence[Tried]) -> list[Point]:
    start = Experiment("", {key: base.changed[key]}, base.models)
    own = [Tried(model, start.changed, (start,)) for model in {each.model: None for each in varied}]
    found = [
        Point(
            each.changed[key],
            each.model,
            score(validation(each.results)),
            score(each.results["macro_f1"]),
            tuple(name for name in each.names if name),
            each.experiments[0].command,
        )
        for each in [*own, *varied]
    ]
    return sorted(found, key=lambda point: (list(base.models).index(point.model), _order(point.value)))


def crossings(base: Experiment, experiments: Sequence[Experiment]) -> list[Grid]:
    """The main effects of settings that are changed together; what is changed alone is part of the grid."""
    every = tried(base, experiments)
    together = sorted({tuple(each.changed) for each in every if len(each.changed) > 1})
    widest = [keys for keys in together if not any(set(keys) < set(other) for other in together)]
    return [grid(keys, base, every) for keys in widest]


def grid(keys: tuple[str, ...], base: Experiment, every: Sequence[Tried]) -> Grid:
    """The grid of the models that were trained with all of `keys` changed; counted in the least complete of them."""
    models = {each.model: None for each in every if tuple(each.changed) == keys}
    effects: list[Effect] = []
    counts = []
    for model in models:
        cells = [({key: base.changed[key] for key in keys}, base.models[model])]
        cells += [
            ({key: each.changed.get(key, base.changed[key]) for key in keys}, each.results)
            for each in every
            if each.model == model and set(each.changed) <= set(keys)
        ]
        choices = {
            key: sorted({_identity(values[key]): values[key] for values, _ in cells}.values(), key=_order)
            for key in keys
        }
        effects += [effect(key, value, model, cells) for key in keys for value in choices[key]]
        counts.append((len(cells), math.prod(len(values) for values in choices.values())))
    found, possible = min(counts, key=lambda count: count[0] / count[1])
    return Grid(keys, tuple(effects), found, possible)


def effect(key: str, value: Any, model: str, cells: Sequence[tuple[Settings, Mapping[str, Any]]]) -> Effect:
    """The means over a model's combinations of settings that have this value."""
    held = [results for values, results in cells if _identity(values[key]) == _identity(value)]
    return Effect(
        key,
        value,
        model,
        _mean([validation(each)["mean"] for each in held]),
        float(np.mean([each["macro_f1"]["mean"] for each in held])),
        len(held),  # of test scores; of validation scores those that there are
    )


def _mean(scores: Sequence[float]) -> float:
    """Of those that there are; NaN where there are none."""
    known = [score for score in scores if not math.isnan(score)]
    return float(np.mean(known)) if known else math.nan


def validation(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model's validation score in metrics.json; NaN where it was trained on the validation images too."""
    return model.get("val_macro_f1", {"mean": math.nan, "n": 1})


def score(entry: Mapping[str, Any]) -> Score:
    return Score(entry["mean"], entry.get("low", math.nan), entry.get("high", math.nan), entry["n"])


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then texts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not number, value if number else 0, "" if number else as_given(value))


def as_given(value: Any) -> str:
    """A setting as `-S key=value` takes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
