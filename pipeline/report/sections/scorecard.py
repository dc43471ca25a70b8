"""scorecard: numbers of a paper beside ours."""

import math
from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from pipeline.base.quantities import duration, enumerated, quantity, size
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH
from pipeline.scoring import intervals, published
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
    words = dict(zip(VERDICTS, ("exceeded", "reached", "not reached", "too uncertain to say", "not run"), strict=True))
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
            "table": line.number.table,
            "row": line.number.row,
            "model": line.number.model,
            "metric": line.metric,
            "published": line.published,
            "published_n": None if line.metric in UNITS else line.number.trainings,
            "ours": line.ours.mean if line.ours else math.nan,
            "low": line.ours.low if line.ours else math.nan,
            "high": line.ours.high if line.ours else math.nan,
            "n": line.ours.n if line.ours else None,
            "interval_over": line.ours.basis if line.ours and not math.isnan(line.ours.low) else "",
            "difference": difference(line) if line.ours else math.nan,
            "difference_low": 100 * line.ends[0],
            "difference_high": 100 * line.ends[1],
            "unit": UNITS.get(line.metric, "percentage points"),  # of the difference
            "verdict": line.verdict,
            "reason": line.reason,
            **({"all_wrong": line.bounds[0], "all_right": line.bounds[1]} if line.bounds else {}),
        }
        for line in lines
    ]
    header = ("Table", "Row", "Model", "Metric", "Published", "Ours", "95% interval", "n", "Difference", "Verdict")
    frame = pd.DataFrame(rows).astype({"n": "Int64", "published_n": "Int64"})
    return Table("scorecard", caption, frame, header, tuple(_cells(line) for line in lines))


def rule(lines: Sequence[Line]) -> str:
    """What the verdicts mean, for a caption."""
    found = {line.metric for line in lines}
    scores, costs = [line for line in lines if line.metric not in UNITS], found & UNITS.keys()
    text = ""
    if scores:
        text += f" {_rule_of_scores(scores)}"
    if costs:
        text += (
            " Costs: exceeded where ours is lower, below where it is higher, reached where it is the same, rounded as"
            " published; of seconds the interval, where there is one."
        )
    if costs & {"cpu_seconds", "train_seconds"}:
        text += " Times depend on the machine."
    return text.strip()


def _rule_of_scores(lines: Sequence[Line]) -> str:
    trainings = sorted({line.number.trainings for line in lines})
    taken = "one training" if trainings == [1] else f"the mean of {enumerated([f'{n:,}' for n in trainings])} trainings"
    return (
        f"Scores: the published one is taken as {taken}, rounded as printed; the difference (percentage points, pp) has"
        f" the {intervals.SEEDS:.0%} interval that an exact reproduction would have, our spread over seeds standing for"
        f" theirs. Exceeded: it lies above 0; below: under 0; reached: it holds 0 and excludes that ours is worse by"
        f" {published.MARGIN * 100:g} pp, or by half the published error where that is less; too uncertain: neither, as"
        " always with one replicate, which says nothing of other seeds."
    )


def _cells(line: Line) -> tuple[str, ...]:
    ours, metric, theirs = line.ours, line.metric, line.number
    seconds = UNITS.get(metric) == "seconds" and line.published < MINUTE  # as printed, however few its figures
    printed = f"{line.published:g} s" if seconds else number(line.published, metric, line.published)
    start = (theirs.table, theirs.row, theirs.model, TITLES[metric], printed)
    if not ours:
        return (*start, *[DASH] * 4, f"not run: {line.reason}")
    known = not math.isnan(ours.low)  # seconds of one replicate have no interval
    ends = [number(end, metric, line.published) for end in (ours.low, ours.high)] if known else []
    side = {"exceeded": " (lower)", "below": " (higher)"}.get(line.verdict, "") if metric in UNITS else ""
    return (
        *start,
        number(ours.mean, metric, line.published)
        + (f" ({' to '.join(number(end, metric, line.published) for end in line.bounds)})" if line.bounds else ""),
        f"[{', '.join(ends)}]" if known else DASH,
        str(ours.n),
        _difference(line),
        line.verdict + (f": {line.reason}" if line.reason else side),
    )


def _difference(line: Line) -> str:
    """−0.31 pp [−2.10, +1.48]; of a cost without interval"""
    amount = abs(difference(line))
    gap = number(amount, line.metric, amount) if line.metric in UNITS else f"{amount:.2f} pp"
    sign = "−" if difference(line) < 0 else "+"
    text = sign + gap if any(digit in gap for digit in "123456789") else gap
    if math.isnan(line.ends[0]):
        return text
    return f"{text} [{', '.join(f'{100 * end:+.2f}'.replace('-', '−') for end in line.ends)}]"


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
            model.scored,
            [evaluation.cost.measured() for evaluation in model.evaluations],
            model.cpu_seconds,
            "rounds" if model.rounds else "replicates",
        )
        for model in found.models
        if model.name in named
    }
    missing = lacking(found)
    official = bool(found.data.published.get("test")) and not missing and not found.data.variant
    images = published.Images(found.images, missing, same=official)
    return published.compare(found.settings.published, found.data.dataset, results, found.data.names, images)


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
        of_missing = f"all {missing} test images" if missing > 1 else "the test image"
        text += f" In brackets: the accuracy had {of_missing} that this copy lacks been wrong, or all right."
    return f"{text} {rule(lines)}"
