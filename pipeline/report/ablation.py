"""The page of `versus ablation`: what was tried beside the commit, then each axis and the main effects of each grid."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.base.places import study
from pipeline.report import drawing
from pipeline.report.drawing import DASHED, colours, style
from pipeline.report.page import templates
from pipeline.report.pictures import inline_svg
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH, mean_and_interval, p_value, score, signed_interval
from pipeline.scoring.ablation import Grid, Point, as_given
from pipeline.scoring.tried import Change, Compared, Comparison

Triple = tuple[float, float, float]  # mean, low, high

SPLIT_LOOKS = {"markers": {"validation": "s", "test": "o"}, "dashes": {"validation": (4, 2), "test": ""}}


@style()
def ablation_axis_figure(setting: str, lines: Mapping[str, Sequence[tuple[str, Triple, Triple]]]) -> Figure:
    """Validation (dashed) and test macro-F1 (with its interval) over a setting's values, a colour per model."""
    values = list(dict.fromkeys(value for points in lines.values() for value, _, _ in points))
    rows = [
        (model, split, values.index(point[0]) + (index - 0.5) * 0.08, *point[1 + index])
        for model, points in lines.items()
        for point in points
        for index, split in enumerate(("validation", "test"))
    ]
    table = pd.DataFrame(rows, columns=["model", "split", "value", "mean", "low", "high"])
    figure = Figure(figsize=(max(5.0, 0.9 * len(values) + 2.5), 3.4), layout="constrained")
    panel = figure.subplots()
    tones = colours(list(lines))
    _ablation_lines(panel, table, tones)
    panel.vlines(table["value"], table["low"], table["high"], color=table["model"].map(tones), linewidth=1.2)
    panel.set_xticks(np.arange(len(values)), values)
    panel.set(xlabel=setting, ylabel="macro-F1", xlim=(-0.5, len(values) - 0.5))
    _ablation_key(figure, tones)
    return figure


@style()
def main_effects_figure(effects: Mapping[str, Mapping[str, Sequence[tuple[str, float, float]]]]) -> Figure:
    """Mean validation (dashed) and test macro-F1 over a setting's values, a panel per setting, a colour per model."""
    tones = colours(list(dict.fromkeys(model for lines in effects.values() for model in lines)))
    figure = Figure(figsize=(3.6 * len(effects) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(effects), squeeze=False, sharey=True)[0]
    for panel, (setting, lines) in zip(panels, effects.items(), strict=True):
        rows = [(model, *point) for model, points in lines.items() for point in points]
        table = pd.DataFrame(rows, columns=["model", "value", "validation", "test"])
        _ablation_lines(panel, table.melt(["model", "value"], var_name="split", value_name="mean"), tones)
        panel.set(xlabel=setting, ylabel="mean macro-F1" if panel is panels[0] else "")
        panel.margins(x=0.2)
    _ablation_key(figure, tones)
    return figure


def _ablation_lines(panel: Axes, table: pd.DataFrame, tones: Mapping[str, str]) -> None:
    """A line for each model and split of a table with columns model, split, value and mean."""
    looks = {"hue": "model", "palette": tones, "style": "split", "markersize": 5, **SPLIT_LOOKS}
    sns.lineplot(table, x="value", y="mean", **looks, estimator=None, sort=False, legend=False, ax=panel)


def _ablation_key(figure: Figure, tones: Mapping[str, str]) -> None:
    looks: dict[str, dict[str, Any]] = {model: {"color": tone, "linewidth": 2.2} for model, tone in tones.items()}
    looks["validation"] = {"marker": "s", "markersize": 5, "linestyle": DASHED}
    drawing.key(figure, looks | {"test": {"marker": "o", "markersize": 5}})


FOLDER = Path("reports/ablation")


# tables, figures, page


def tried_section(found: Comparison) -> Section:
    return Section("Beside the last commit", tables=(tried_table(found),), lines=tuple(too_high(found)))


def tried_table(found: Comparison) -> Table:
    """A line for each setting and model that was tried: paired differences against the commit's own."""
    header = ("Setting", "Model", "Validation − commit's", "p", "Test − commit's", "p", "n")
    cells = tuple(
        (
            _settings(each),
            each.tried.model,
            _change(each.validation),
            p_value(each.validation.holm),
            _change(each.test),
            p_value(each.test.holm),
            str(each.n) if each.n else DASH,
        )
        for each in found.every
    )
    rows = [
        {"setting": _settings(each), "model": each.tried.model}
        | {
            f"{split}_{name}": value
            for split, change in (("val", each.validation), ("test", each.test))
            for name, value in vars(change).items()
        }
        | {"n": each.n, "names": " ".join(each.tried.names)}
        for each in found.every
    ]
    caption = (
        f"{study()}: macro-F1 with other settings less that with the commit's own, of n seeds that both were"
        " trained from; 95% intervals of paired differences: those of validation scores over seeds (none with one"
        " seed), those of test scores over seeds and test images; none with folds, splits of each replicate's own"
        f" or on other images. Each column's p are corrected (Holm) for its {len(found.every)} comparisons: choose by"
        " validation, or test what validation chose, not by whichever is smaller. Intervals are not corrected."
    )
    return Table("tried", caption, pd.DataFrame(rows), header, cells)


def too_high(found: Comparison) -> list[str]:
    """For each model how much the best of its validation scores owes to having been chosen."""
    lines = []
    for model, excess in found.excess.items():
        much = "by how much is not known without several seeds"
        if not math.isnan(excess):
            much = f"by about {excess:.4f} if all were equally good, of the luck of seeds alone"
        lines.append(
            f"{model}: the best of {found.number(model) + 1} validation scores, the commit's among them, is too high"
            f" for having been chosen; {much}."
        )
    return lines


def _settings(each: Compared) -> str:
    return ", ".join(f"{key}={as_given(value)}" for key, value in each.tried.changed.items())


def _change(change: Change) -> str:
    return DASH if math.isnan(change.value) else signed_interval(change.value, change.low, change.high)


def axis_section(key: str, found: Sequence[Point]) -> Section:
    table = axis_table(key, found)
    lines: dict[str, list[tuple[str, Triple, Triple]]] = {}
    for point in found:
        lines.setdefault(point.model, []).append((as_given(point.value), point.validation.numbers, point.test.numbers))
    return Section(key, tables=(table,), figures={table.name: ablation_axis_figure(key, lines)})


def axis_table(key: str, found: Sequence[Point]) -> Table:
    rows = [
        {"setting": key, "value": as_given(point.value), "model": point.model}
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
            as_given(point.value),
            point.model,
            mean_and_interval(*point.validation.numbers),
            mean_and_interval(*point.test.numbers),
            str(point.test.n),
            point.command,
            str(len(point.experiments)),
        )
        for point in found
    )
    header = (key, "Model", "Validation macro-F1", "Test macro-F1", "n", "Command", "Experiments")
    replicates = max(point.test.n for point in found)
    over = "test images; n = 1 replicate"
    if replicates > 1:
        over = f"n = {replicates} replicates, those of test scores over test images too"
    caption = (
        f"{study()}: {key}, all else as in the last commit. 95% intervals over {over}. Choose by the validation score;"
        " `dvc repro` stands for the commit itself."
    )
    return Table(_slug(key), caption, pd.DataFrame(rows), header, cells)


def grid_section(found: Grid) -> Section:
    table = grid_table(found)
    effects: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    for each in found.effects:
        line = effects.setdefault(each.key, {}).setdefault(each.model, [])
        line.append((as_given(each.value), each.validation, each.test))
    return Section(" × ".join(found.keys), tables=(table,), figures={table.name: main_effects_figure(effects)})


def grid_table(found: Grid) -> Table:
    title = " × ".join(found.keys)
    caption = (
        f"{study()}: main effects of {title}, means over the other settings' values;"
        f" {found.found} of {found.possible} combinations were run"
        + ("." if found.found == found.possible else ": what is missing is not balanced out.")
    )
    rows = [
        {
            "setting": each.key,
            "value": as_given(each.value),
            "model": each.model,
            "val_macro_f1": each.validation,
            "test_macro_f1": each.test,
            "points": each.points,
        }
        for each in found.effects
    ]
    cells = tuple(
        (f"{each.key}={as_given(each.value)}", each.model, score(each.validation), score(each.test), str(each.points))
        for each in found.effects
    )
    header = ("Setting", "Model", "Validation macro-F1", "Test macro-F1", "Points")
    return Table(_slug(title), caption, pd.DataFrame(rows), header, cells)


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", title).strip("-")


def page(sections: Sequence[Section], folder: Path, count: int, failed: int) -> str:
    """The page, with the figures that lie in `folder`."""
    return (
        templates()
        .get_template("ablation.html")
        .render(
            study=study(),
            count=count,
            failed=failed,
            sections=[
                (section, table, inline_svg(folder / f"{table.name}.svg") if section.figures else "")
                for section in sections
                for table in section.tables
            ],
        )
    )
