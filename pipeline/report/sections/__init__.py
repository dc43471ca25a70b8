"""The sections of the report: NAME.py says what is found, NAME.html how it reads."""

from importlib import import_module

from pipeline.report.found import Found
from pipeline.report.section import Section

NAMES = (  # of the page, from top to bottom
    "comparison",
    "pairs",
    "superiority",
    "variance",
    "tuning",
    "scorecard",
    "cost",
    "compute",
    "ensemble",
    "confusion",
    "classes",
    "metrics",
    "learning",
    "training",
    "images",
    "calibration",
    "probabilities",
    "inflation",
    "corruptions",
    "subgroups",
    "labels",
    "data",
    "looks",
    "protocol",
    "caveats",
    "rerun",
)


def made(found: Found) -> dict[str, Section]:
    """Every section that has something to show, by its name."""
    every = {name: import_module(f"{__name__}.{name}").section(found) for name in NAMES}
    return {name: section for name, section in every.items() if section}
