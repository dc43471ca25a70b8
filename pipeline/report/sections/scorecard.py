"""scorecard: numbers of a paper beside ours."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from pipeline.params.study import Params
from pipeline.report.captions import basis, places, tested, timed_on
from pipeline.report.results import Model
from pipeline.report.table import Table
from pipeline.report.words import DASH, duration, quantity, size
from pipeline.scoring import published
from pipeline.scoring.published import TITLES, UNITS, VERDICTS, Line, _difference, counts

MINUTE = 59.95  # seconds that would be rounded to sixty


def sentence(lines: Sequence[Line]) -> str:
    """Of 17 published numbers, 9 are exceeded, 3 reached, 4 not reached, 1 not run.

    Scores and costs are counted apart: a smaller file makes no model better.
    """
    scores, costs = ([line for line in lines if (line.metric in UNITS) is cost] for cost in (False, True))
    if scores and costs:
        return f"{_counted(scores, 'score')} {_counted(costs, 'cost')}"
    return _counted(lines, "number")


def _counted(lines: Sequence[Line], noun: str) -> str:
    words = dict(zip(VERDICTS, ("exceeded", "reached", "not reached", "not run"), strict=True))
    first, *others = [(number, words[verdict]) for verdict, number in counts(lines).items() if number]
    if len(lines) == 1:
        return f"The one published {noun} is {first[1]}."
    verb = "is" if first[0] == 1 else "are"
    return (
        ", ".join(
            [f"Of {len(lines)} published {noun}s, {first[0]} {verb} {first[1]}", *(f"{n} {word}" for n, word in others)]
        )
        + "."
    )


def scorecard_table(lines: Sequence[Line], caption: str) -> Table:
    """The scorecard as a table of the report; `caption` says what ours are of, the rule stands behind it."""
    rows = [
        {
            "table": line.table,
            "row": line.row,
            "model": line.model,
            "metric": line.metric,
            "published": line.published,
            "ours": line.ours.mean if line.ours else math.nan,
            "low": line.ours.low if line.ours else math.nan,
            "high": line.ours.high if line.ours else math.nan,
            "n": line.ours.n if line.ours else None,
            "interval_over": line.ours.basis if line.ours and not math.isnan(line.ours.low) else "",
            "difference": _difference(line) if line.ours else math.nan,
            "unit": UNITS.get(line.metric, "percentage points"),  # of the difference
            "verdict": line.verdict,
            "reason": line.reason,
            **({"all_wrong": line.bounds[0], "all_right": line.bounds[1]} if line.bounds else {}),
        }
        for line in lines
    ]
    header = ("Table", "Row", "Model", "Metric", "Published", "Ours", "95% interval", "n", "Difference", "Verdict")
    frame = pd.DataFrame(rows).astype({"n": "Int64"})
    return Table("scorecard", f"{caption} {rule(lines)}", frame, header, tuple(_cells(line) for line in lines))


def rule(lines: Sequence[Line]) -> str:
    """What the verdicts mean, for a caption."""
    found = {line.metric for line in lines}
    scores, costs = bool(found - UNITS.keys()), bool(found & UNITS.keys())
    better = " or ".join(["higher"] * scores + ["lower"] * costs)
    if scores and costs:
        better = "higher for scores, lower for costs"
    text = (
        f"Exceeded: the 95% interval lies on the better side ({better}) of the published value; below: on the worse"
        " side; reached: the interval holds it."
    )
    if any(line.ours and math.isnan(line.ours.low) for line in lines):
        text += " Where there is no interval, the number itself decides."
    if costs:
        text += " Costs are rounded as published."
    if found & {"cpu_seconds", "train_seconds"}:
        text += " Times depend on the machine."
    if scores:
        text += " Differences of scores are in percentage points (pp)."
    return text


def _cells(line: Line) -> tuple[str, ...]:
    ours, metric = line.ours, line.metric
    seconds = UNITS.get(metric) == "seconds" and line.published < MINUTE  # as printed, however few its figures
    printed = f"{line.published:g} s" if seconds else number(line.published, metric, line.published)
    start = (line.table, line.row, line.model, TITLES[metric], printed)
    if not ours:
        return (*start, *[DASH] * 4, f"not run: {line.reason}")
    known = not math.isnan(ours.low)  # seconds of one replicate have no interval
    ends = [number(end, metric, line.published) for end in (ours.low, ours.high)] if known else []
    amount = abs(_difference(line))
    gap = number(amount, metric, amount) if metric in UNITS else f"{amount:.2f} pp"
    sign = "−" if _difference(line) < 0 else "+"
    side = {"exceeded": " (lower)", "below": " (higher)"}.get(line.verdict, "") if metric in UNITS else ""
    return (
        *start,
        number(ours.mean, metric, line.published)
        + (f" ({' to '.join(number(end, metric, line.published) for end in line.bounds)})" if line.bounds else ""),
        f"[{', '.join(ends)}]" if known else DASH,
        str(ours.n),
        sign + gap if any(digit in gap for digit in "123456789") else gap,
        line.verdict + side,
    )


def number(value: float, metric: str, published: float) -> str:
    """A number as its metric is written, with as many decimals as its comparison looks at."""
    if metric == "parameters":
        return f"{value:,.0f}"
    if metric == "flops":
        return quantity(value)
    if metric == "weight_bytes":
        return size(value)
    if metric in UNITS:
        return f"{f'{value:#.3g}'.rstrip('.')} s" if value < MINUTE else duration(value)
    places = max(4, -int(Decimal(str(published)).normalize().as_tuple().exponent))
    return f"{value:.{places}f}"


def compare(settings: Params, data: Mapping[str, Any], models: Sequence[Model]) -> list[published.Line]:
    """The numbers published for this data set, beside ours."""
    named = {
        row.model or table.model
        for table in settings.published
        if table.dataset == data["dataset"]
        for row in table.rows.values()
    }
    results = {
        model.name: published.result(
            model.confusions, model.costs, model.cpu_seconds, "rounds" if model.rounds else "replicates"
        )
        for model in models
        if model.name in named
    }
    classes = [each["class"] for each in data["classes"]]
    images = len(models[0].actual)
    return published.compare(settings.published, data["dataset"], results, classes, images, lacking(models, data))


def lacking(models: Sequence[Model], data: Mapping[str, Any]) -> int:
    """How many published test images ours lacks."""
    return max(0, (data["published"].get("test") or 0) - len(models[0].actual))


def scorecard_caption(lines: Sequence[published.Line], models: Sequence[Model], data: Mapping[str, Any]) -> str:
    ours = "ours are means with" if len(models[0].evaluations) > 1 else "ours have"
    timed = any(line.metric == "cpu_seconds" and line.ours for line in lines)
    return (
        f"{tested(models, data)}: published values are as printed; {ours} {basis(models)}. Trained on {places(models)}."
        + (f" {published.other_images(data['variant'])}" if data["variant"] else "")
        + (f" CPU times are over {models[0].timed_over}, on {timed_on(models)}." if timed and models[0].rounds else "")
        + (
            f" In brackets: the accuracy had all {missing} test images that this copy lacks been wrong, or all right."
            if (missing := lacking(models, data))
            else ""
        )
    )
