"""subgroups: how accurate models are on images of one kind and another, where the data set says which are of which."""

from collections.abc import Sequence

from pipeline.base.quantities import enumerated
from pipeline.report import subgroups
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.subgroups import Attributes
from pipeline.report.table import Table
from pipeline.scoring.subgroups import FEWEST

NAMED = 3  # gaps that the sentence names


def section(found: Found) -> Section | None:
    """None where the study knows nothing of its test images beside their classes."""
    if not found.data.attributes:
        return None
    known = subgroups.attributes(found)
    tables = subgroups.tables(found, known)
    words = {"attributes": enumerated(list(known)), "by_value": by_value(tables[0]), "sentence": sentence(found, known)}
    return Section("Subgroups", words, tables=tables)


def sentence(found: Found, known: Attributes) -> str:
    """Which models are more accurate on some images than on others: 5% of models without any gap are named, too."""
    every = [(model.name, name, gap) for model in found.models for name, gap in subgroups.gaps(model, known)]
    if not every:
        return f"No attribute has two values of {FEWEST} test images or more each, so that no gap is told."
    held = [f"{model}, {gap.above} over {gap.below} ({name})" for model, name, gap in every if gap.holds]
    if not held:
        more = "replicates or test images" if found.replicates > 1 else "test images"
        return (
            "No gap in accuracy between two values of an attribute holds, corrected for how many a model has; with more"
            f" {more} one might."
        )
    return f"Gaps in accuracy that hold, corrected for how many a model has: {'; '.join(few(held))}."


def by_value(scores: Table) -> dict[tuple[str, ...], list[str]]:
    """Attribute, value and number of images -> accuracy of each model."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for _, *kind, accuracy in scores.cells:
        rows.setdefault(tuple(kind), []).append(accuracy)
    return rows


def few(texts: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    shown = texts if len(texts) <= NAMED else texts[: NAMED - 1]
    rest = len(texts) - len(shown)
    return [*shown, f"{rest} more"] if rest else list(shown)
