"""Experiments by the settings that they change: axes, grids, paired differences and main effects."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COMMAND = "dvc exp run"

Settings = Mapping[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class Experiment:
    name: str  # empty for the commit itself
    changed: Settings  # what differs from the commit
    models: Mapping[str, Mapping[str, Any]]  # of metrics.json

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


# axes and grids


def axes(base: Experiment, experiments: Sequence[Experiment]) -> dict[str, list[Point]]:
    """Setting -> its points, the commit's own value among them, by value; of experiments that change it alone."""
    alone = sorted({key for each in experiments if len(each.changed) == 1 for key in each.changed})
    return {key: points(key, base, [each for each in experiments if list(each.changed) == [key]]) for key in alone}


def points(key: str, base: Experiment, experiments: Sequence[Experiment]) -> list[Point]:
    start = Experiment("", {key: base.changed[key]}, base.models)
    groups: dict[str, list[Experiment]] = {}
    for each in [start, *experiments]:
        groups.setdefault(as_given(each.changed[key]), []).append(each)
    found = [
        Point(
            group[0].changed[key],
            model,
            score(validation(group[0].models[model])),
            score(group[0].models[model]["macro_f1"]),
            tuple(each.name for each in group if each.name),
            group[0].command,
        )
        for group in groups.values()
        for model in touched((key,), group[0].models)
    ]
    return sorted(found, key=lambda point: (point.model, _order(point.value)))


def touched(keys: Sequence[str], models: Mapping[str, Any]) -> list[str]:
    """The models that settings can change: their own, or all where one is shared."""
    own = [key.split(".")[1] for key in keys if key.startswith("models.")]
    return [name for name in models if name in own] if len(own) == len(keys) else list(models)


def crossings(base: Experiment, experiments: Sequence[Experiment]) -> list[Grid]:
    """The main effects of settings that experiments change together; what they change alone is part of the grid."""
    together = sorted({tuple(each.changed) for each in experiments if len(each.changed) > 1})
    widest = [keys for keys in together if not any(set(keys) < set(other) for other in together)]
    return [grid(keys, base, experiments) for keys in widest]


def grid(keys: tuple[str, ...], base: Experiment, experiments: Sequence[Experiment]) -> Grid:
    cells: dict[tuple[str, ...], tuple[dict[str, Any], Experiment]] = {}
    for each in [Experiment("", {}, base.models), *experiments]:
        if set(each.changed) <= set(keys):
            values = {key: each.changed.get(key, base.changed[key]) for key in keys}
            cells.setdefault(tuple(map(as_given, values.values())), (values, each))
    choices = {
        key: sorted({as_given(values[key]): values[key] for values, _ in cells.values()}.values(), key=_order)
        for key in keys
    }
    effects = []
    for model in touched(keys, base.models):
        for key in keys:
            for value in choices[key]:
                held = [each.models[model] for values, each in cells.values() if values[key] == value]
                effects.append(
                    Effect(
                        key,
                        value,
                        model,
                        _mean([validation(each)["mean"] for each in held]),
                        float(np.mean([each["macro_f1"]["mean"] for each in held])),
                        len(held),  # of test scores; of validation scores those that there are
                    )
                )
    return Grid(keys, tuple(effects), len(cells), math.prod(len(values) for values in choices.values()))


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
