"""superiority: how often one model of a pair is above the other, which are practically equal, and ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.sections.pairs import FEW
from pipeline.report.table import Table
from pipeline.report.words import DASH, p_value
from pipeline.scoring import superiority
from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.pairs import SCORES, Difference, Pair, turned
from pipeline.scoring.superiority import MEANINGFUL, Bounded

NAMED = 3  # equal pairs that the sentence names
HEADER = ("Pair", "How often the first is above", f"{MEANINGFUL} or more?", "p of equality", "In all")


@dataclass(frozen=True)
class Beside:
    """What is said of a pair beside its verdict."""

    pair: Pair
    probability: Bounded | None  # None where replicates have splits of their own
    p: float  # of practical equality, Holm-adjusted; 1 without a margin

    @property
    def equal(self) -> bool:
        """Whether the difference is surely within the margin."""
        return self.p <= 1 - LEVEL

    @property
    def from_above(self) -> "Beside":
        """The same pair seen from the model of the higher mean."""
        if self.pair.differences[SCORES[0]].value >= 0:
            return self
        found = self.probability
        opposite = found and Bounded(1 - found.value, 1 - found.high, 1 - found.low)
        return Beside(turned(self.pair), opposite, self.p)

    @property
    def reach(self) -> str:
        """Whether the probability is 0.75 or more: yes or no of all of its interval, perhaps where that holds 0.75."""
        if self.probability is None:
            return DASH
        if self.probability.low > MEANINGFUL:
            return "yes"
        return "perhaps" if self.probability.high > MEANINGFUL else "no"

    @property
    def conclusion(self) -> str:
        """The verdict, and whether the difference matters: practically equal; better, within the margin"""
        if not self.equal:
            return self.pair.verdict
        return (
            "practically equal"
            if self.pair.verdict == "not distinguishable"
            else f"{self.pair.verdict}, within the margin"
        )


def section(found: Found) -> Section | None:
    """None where there is one model."""
    if not found.pairs:
        return None
    rows = beside(found)
    shown = rows if len(rows) <= FEW else [row for row in rows if found.ranking[0] in (row.pair.model, row.pair.other)]
    ranks = {} if found.draws or found.first.folds else superiority.ranked(*found.answers, len(found.data.names))
    tables = [Table("superiority", caption(found), frame(rows), HEADER, tuple(cells(row.from_above) for row in shown))]
    if ranks:
        tables.append(rank_table(found, ranks))
    margin = found.settings.verdict.margin
    return Section(
        "How often better",
        {"sentence": sentence(rows, margin), "left_out": left_out(found, len(shown) < len(rows))},
        tables=tuple(tables),
        lines=(sentence(rows, margin),) if margin else (),
        summary={"superiority": [compact(row) for row in rows]},
    )


def beside(found: Found) -> list[Beside]:
    margin = found.settings.verdict.margin
    differences = [pair.differences[SCORES[0]] for pair in found.pairs]
    p = superiority.all_equal(differences, margin)
    return [
        Beside(pair, probability(found, each), float(value))
        for pair, each, value in zip(found.pairs, differences, p, strict=True)
    ]


def probability(found: Found, difference: Difference) -> Bounded | None:
    if found.draws or found.first.folds:
        return None
    return superiority.probability(difference, found.replicates)


def sentence(rows: Sequence[Beside], margin: float) -> str:
    """Practically equal, within ±0.005 of macro-F1: vit and hybrid."""
    if not margin:
        return "Models that cannot be told apart are not shown to be equal."
    named = [f"{row.pair.model} and {row.pair.other}" for row in rows if row.equal]
    if not named:
        return f"No pair is shown to be practically equal, within ±{margin:g} of macro-F1."
    texts = named if len(named) <= NAMED else [*named[: NAMED - 1], f"{len(named) - NAMED + 1} more pairs"]
    return f"Practically equal, within ±{margin:g} of macro-F1: {'; '.join(texts)}."


def left_out(found: Found, shortened: bool) -> str:
    """What is not said, and why."""
    if found.draws or found.first.folds:
        return (
            "How often a model is above another, and intervals of ranks, are not given where replicates have splits of"
            " their own: how far one training on a new split varies is not known from splits that share their images."
        )
    return f"Shown: {found.ranking[0]} beside every other; all pairs are in the CSV." if shortened else ""


# tables


def frame(rows: Sequence[Beside]) -> pd.DataFrame:
    return pd.DataFrame([compact(row) for row in rows])


def compact(row: Beside) -> dict[str, object]:
    """What the CSV and metrics.json have of a pair."""
    found = row.probability
    numbers = (found.value, found.low, found.high) if found else (None, None, None)
    names = ("probability", "probability_low", "probability_high")
    return {
        "model": row.pair.model,
        "other": row.pair.other,
        "conclusion": row.conclusion,
        **dict(zip(names, numbers, strict=True)),
        "equality_p_holm": row.p,
    }


def cells(row: Beside) -> tuple[str, ...]:
    found = row.probability
    return (
        f"{row.pair.model} vs {row.pair.other}",
        f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]" if found else DASH,
        row.reach,
        p_value(row.p),
        row.conclusion,
    )


def caption(found: Found) -> str:
    margin = found.settings.verdict.margin
    over = "trainings of one seed" if found.replicates > 1 else "these weights, seeds not varied,"
    stated = f"within ±{margin:g}, as params.yaml states" if margin else "params.yaml states no verdict.margin"
    return (
        f"{found.tested}, macro-F1: how often the first model, whose mean is higher, scores above the second, {over} on"
        f" as many new test images, with 95% intervals, of each pair alone. {MEANINGFUL} or more? Yes: all of the"
        " interval is; perhaps: the interval holds it; no: all is below. A difference that holds is meaningful by"
        f" Bouthillier et al. (2021) where this is not no. p of equality: two one-sided tests ({stated}),"
        " Holm-adjusted over pairs; practically equal at 5%."
    )


def rank_table(found: Found, ranks: Mapping[str, Bounded]) -> Table:
    """A line for each model, the best first."""
    rows = [(name, ranks[name]) for name in found.ranking]
    over = "seeds and test images" if found.replicates > 1 else "test images, seeds not varied"
    return Table(
        "ranks",
        f"{found.tested}: ranks by mean macro-F1, with 95% bootstrap intervals over {over}, of each model alone.",
        pd.DataFrame([{"model": name, "rank": each.value, "low": each.low, "high": each.high} for name, each in rows]),
        ("Model", "Rank"),
        tuple((name, f"{each.value:g} [{each.low:g}, {each.high:g}]") for name, each in rows),
    )
