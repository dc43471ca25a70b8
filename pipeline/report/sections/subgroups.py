"""subgroups: how accurate models are on images of one kind and another, where the data set says which are of which."""

from collections.abc import Sequence

from pipeline.base.quantities import enumerated
from pipeline.report import subgroups
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.subgroups import NamedGap
from pipeline.report.table import Table
from pipeline.report.words import few
from pipeline.scoring.subgroups import FEWEST


def section(found: Found) -> Section | None:
    """None where the study knows nothing of its test images beside their classes."""
    if not found.data.attributes:
        return None
    known = subgroups.attributes(found)
    gaps = subgroups.gaps(found, known)
    tables = subgroups.tables(found, known, gaps)
    told = sentence(gaps, found.replicates)
    words = {"attributes": enumerated(list(known)), "by_value": by_value(tables[0]), "sentence": told}
    return Section("Subgroups", words, tables=tables)


def sentence(gaps: Sequence[NamedGap], replicates: int) -> str:
    """Which models are more accurate on some images than on others: 5% of models without any gap are named, too."""
    if not gaps:
        return f"No attribute has two values of {FEWEST} test images or more each, so that no gap is told."
    held = [f"{model}, {gap.above} over {gap.below} ({name})" for model, name, gap in gaps if gap.holds]
    if not held:
        more = "replicates or test images" if replicates > 1 else "test images"
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
