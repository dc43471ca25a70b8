"""scorecard: numbers of a paper beside ours."""

import math
from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from pipeline.base.quantities import duration, quantity, size
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH
from pipeline.scoring import published
from pipeline.scoring.published import TITLES, UNITS, VERDICTS, Line, counts, difference

MINUTE = 59.95  # seconds that would be rounded to sixty


def section(found: Found) -> Section | None:
    """None where nothing is published for the data set."""
    lines = compared(found)
    if not lines:
        return None
    table = scorecard_table(lines, caption(found, lines))
    told = f"{sentence(lines)} {published.other_images(found.data.variant)}".strip()
    return Section(
        "Scorecard",
        {"told": told, "lines": lines},
        tables=(table,),
        lines=(told,),
        metrics={f"scorecard/{name}": count for name, count in counts(lines).items()},
    )


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
            "difference": difference(line) if line.ours else math.nan,
            "unit": UNITS.get(line.metric, "percentage points"),  # of the difference
            "verdict": line.verdict,
            "reason": line.reason,
            **({"all_wrong": line.bounds[0], "all_right": line.bounds[1]} if line.bounds else {}),
        }
        for line in lines
    ]
    header = ("Table", "Row", "Model", "Metric", "Published", "Ours", "95% interval", "n", "Difference", "Verdict")
    frame = pd.DataFrame(rows).astype({"n": "Int64"})
    return Table("scorecard", caption, frame, header, tuple(_cells(line) for line in lines))


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
    amount = abs(difference(line))
    gap = number(amount, metric, amount) if metric in UNITS else f"{amount:.2f} pp"
    sign = "−" if difference(line) < 0 else "+"
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


def compared(found: Found) -> list[Line]:
    """The numbers published for this data set, beside ours."""
    named = {
        row.model or table.model
        for table in found.settings.published
        if table.dataset == found.data.dataset
        for row in table.rows.values()
    }
    results = {
        model.name: published.result(
            model.confusions,
            [evaluation.cost.measured() for evaluation in model.evaluations],
            model.cpu_seconds,
            "rounds" if model.rounds else "replicates",
        )
        for model in found.models
        if model.name in named
    }
    of = (found.settings.published, found.data.dataset, results, found.data.names)
    return published.compare(*of, found.images, lacking(found))


def lacking(found: Found) -> int:
    """How many published test images ours lacks."""
    return max(0, (found.data.published.get("test") or 0) - found.images)


def caption(found: Found, lines: Sequence[Line]) -> str:
    text = f"{found.tested}: published values are as printed; ours "
    text += f"{'are means with' if found.replicates > 1 else 'have'} {found.basis}. Trained on {found.places}."
    if found.data.variant:
        text += f" {published.other_images(found.data.variant)}"
    if found.first.rounds and any(line.metric == "cpu_seconds" and line.ours for line in lines):
        text += f" CPU times are over {found.first.timed_over}, on {found.timed_on}."
    if missing := lacking(found):
        text += (
            f" In brackets: the accuracy had all {missing} test images that this copy lacks been wrong, or all right."
        )
    return f"{text} {rule(lines)}"
