"""What the study's experiments say of each setting that they vary: `python -m pipeline.ablation`.

Reads the experiments of the last commit from DVC (`dvc exp show`) and compares them with that commit. An axis is a
setting that experiments change alone; a grid is a set of settings that they change together, for which main effects
are given. Leaves reports/ablation/: a table and a figure per axis, and one self-contained ablation.html.
"""

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from pipeline import figures, tables
from pipeline.stage import StageError, run, study, whole

FOLDER = Path("reports/ablation")
METRICS, PARAMS = "reports/metrics.json", "params.yaml"
REMEDY = "queue some and run them, such as `dvc exp run --queue -S models.hybrid.depth=1,4 && dvc queue start`"
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
        return " ".join([COMMAND, *(f"-S {shlex.quote(f'{key}={_text(self.changed[key])}')}" for key in self.changed)])


@dataclass(frozen=True)
class Score:
    mean: float
    low: float
    high: float
    n: int  # replicates


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


def main(argv: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(prog="python -m pipeline.ablation", description=__doc__.split("\n")[0]).parse_args(argv)
    base, experiments, failed = read(show())
    lines, grids = axes(base, experiments), crossings(base, experiments)
    if not lines and not grids:
        raise StageError(f"ablation: no finished experiment of the last commit changes a setting; {REMEDY}")
    with whole(FOLDER) as folder:
        folder.mkdir(parents=True)
        sections = [axis_section(key, points, folder) for key, points in lines.items()]
        sections += [grid_section(grid, folder) for grid in grids]
        page(sections, len(experiments), failed, folder / "ablation.html")
    for title, table, _ in sections:
        print(f"\n{title}\n{tables.text(table.header, table.cells)}")
    print(f"\nablation: {len(experiments)} experiments, {failed} without a result; {FOLDER / 'ablation.html'}")


# what DVC has


def show() -> list[dict[str, Any]]:
    """What `dvc exp show --json` says of the study in this folder."""
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no output"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])[:300]
        raise StageError(f"ablation: `dvc exp show --json` failed ({reason}); run it in a study's folder") from None


def read(shown: Sequence[Mapping[str, Any]]) -> tuple[Experiment, list[Experiment], int]:
    """The last commit (`changed` has its own values of what is varied), its experiments that have results, and how
    many have none.

    Raises StageError if the commit has no results to compare with.
    """
    commit = next((entry for entry in shown if entry["rev"] != "workspace"), None)
    start = _result(commit) if commit else None
    if commit is None or start is None:
        raise StageError(f"ablation: the last commit has no {METRICS}; run `dvc repro` and commit what it leaves")
    settings, models = start
    found, failed = [], 0
    for each in commit.get("experiments") or ():
        last = each["revs"][0] if each.get("revs") else each
        result = _result(last)
        if result is None:
            failed += 1
            continue
        keys = sorted(key for key in settings.keys() | result[0].keys() if settings.get(key) != result[0].get(key))
        name = each.get("name") or last.get("name") or last["rev"][:7]
        found.append(Experiment(name, {key: result[0].get(key) for key in keys}, result[1]))
    found.sort(key=lambda each: each.name)
    varied = {key: settings.get(key) for each in found for key in each.changed}
    return Experiment("", varied, models), found, failed


def _result(entry: Mapping[str, Any]) -> tuple[Settings, Mapping[str, Any]] | None:
    """Flat settings and metrics.json's models; None where there are none."""
    data = entry.get("data") or {}
    try:
        return _flat(data["params"][PARAMS]["data"]), data["metrics"][METRICS]["data"]["models"]
    except (KeyError, TypeError):
        return None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}; `published` changes no result."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix + key != "published":
            flat[prefix + key] = value
    return flat


# axes and grids


def axes(base: Experiment, experiments: Sequence[Experiment]) -> dict[str, list[Point]]:
    """Setting -> its points, the commit's own value among them, by value; of experiments that change it alone."""
    alone = sorted({key for each in experiments if len(each.changed) == 1 for key in each.changed})
    return {key: points(key, base, [each for each in experiments if list(each.changed) == [key]]) for key in alone}


def points(key: str, base: Experiment, experiments: Sequence[Experiment]) -> list[Point]:
    start = Experiment("", {key: base.changed[key]}, base.models)
    groups: dict[str, list[Experiment]] = {}
    for each in [start, *experiments]:
        groups.setdefault(_text(each.changed[key]), []).append(each)
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
            cells.setdefault(tuple(map(_text, values.values())), (values, each))
    choices = {
        key: sorted({_text(values[key]): values[key] for values, _ in cells.values()}.values(), key=_order)
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
    return (not number, value if number else 0, "" if number else _text(value))


def _text(value: Any) -> str:
    """As `-S key=value` takes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# tables, figures, page

Section = tuple[str, tables.Table, Path]


def axis_section(key: str, found: Sequence[Point], folder: Path) -> Section:
    table = axis_table(key, found)
    tables.write(table, folder)
    models = list(dict.fromkeys(point.model for point in found))
    lines = {
        model: [
            (
                _text(point.value),
                (point.validation.mean, point.validation.low, point.validation.high),
                (point.test.mean, point.test.low, point.test.high),
            )
            for point in found
            if point.model == model
        ]
        for model in models
    }
    figures.save(figures.ablation_axis(key, lines), folder, table.name)
    return key, table, folder / f"{table.name}.svg"


def axis_table(key: str, found: Sequence[Point]) -> tables.Table:
    rows = [
        {"setting": key, "value": _text(point.value), "model": point.model}
        | {
            f"{split}_macro_f1{suffix}": getattr(values, field)
            for split, values in (("val", point.validation), ("test", point.test))
            for suffix, field in (("", "mean"), ("_low", "low"), ("_high", "high"))
        }
        | {
            "n": point.test.n,
            "experiments": len(point.experiments),
            "names": " ".join(point.experiments),
            "command": point.command,
        }
        for point in found
    ]
    cells = tuple(
        (
            _text(point.value),
            point.model,
            _interval(point.validation),
            _interval(point.test),
            str(point.test.n),
            str(len(point.experiments)),
            point.command,
        )
        for point in found
    )
    header = (key, "Model", "Validation macro-F1", "Test macro-F1", "n", "Experiments", "Command")
    replicates = max(point.test.n for point in found)
    over = f"n = {replicates} replicates (Student t)" if replicates > 1 else "test images (bootstrap); n = 1 replicate"
    caption = (
        f"{study()}: {key}, all else as in the last commit. 95% intervals over {over}. Choose by the validation score;"
        " `dvc repro` stands for the commit itself."
    )
    return tables.Table(_slug(key), caption, pd.DataFrame(rows), header, cells)


def grid_section(found: Grid, folder: Path) -> Section:
    title = " × ".join(found.keys)
    caption = (
        f"{study()}: main effects of {title}, means over the other settings' values;"
        f" {found.found} of {found.possible} combinations were run"
        + ("." if found.found == found.possible else ": what is missing is not balanced out.")
    )
    rows = [
        {
            "setting": each.key,
            "value": _text(each.value),
            "model": each.model,
            "val_macro_f1": each.validation,
            "test_macro_f1": each.test,
            "points": each.points,
        }
        for each in found.effects
    ]
    cells = tuple(
        (
            f"{each.key}={_text(each.value)}",
            each.model,
            tables.score(each.validation),
            tables.score(each.test),
            str(each.points),
        )
        for each in found.effects
    )
    header = ("Setting", "Model", "Validation macro-F1", "Test macro-F1", "Points")
    table = tables.Table(_slug(title), caption, pd.DataFrame(rows), header, cells)
    tables.write(table, folder)
    effects: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    for each in found.effects:
        line = effects.setdefault(each.key, {}).setdefault(each.model, [])
        line.append((_text(each.value), each.validation, each.test))
    figures.save(figures.main_effects(effects), folder, table.name)
    return title, table, folder / f"{table.name}.svg"


def _interval(value: Score) -> str:
    return (
        tables.score(value.mean)
        if math.isnan(value.low)
        else (f"{tables.score(value.mean)} [{tables.score(value.low)}, {tables.score(value.high)}]")
    )


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", title).strip("-")


def page(sections: Sequence[Section], count: int, failed: int, path: Path) -> None:
    from pipeline.page import TEMPLATES, inline_svg

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    html = environment.get_template("ablation.html").render(
        study=study(),
        count=count,
        failed=failed,
        sections=[(title, table, inline_svg(svg, table.name)) for title, table, svg in sections],
    )
    path.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    run(main)
