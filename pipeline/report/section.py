"""What a section of the report is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.report import drawing
from pipeline.report.table import Table, write


@dataclass(frozen=True)
class Section:
    """What a section shows, and what it adds to the report's other outputs; its text is the template of its name.

    The template gets `found`, `words` by their names, and `tables` and `figures` as mappings by theirs, a figure as it
    stands in the page.
    """

    title: str  # in the page's list of sections
    words: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    lines: tuple[str, ...] = ()  # for the terminal
    summary: Mapping[str, Any] = field(default_factory=dict)  # keys of metrics.json
    metrics: Mapping[str, float] = field(default_factory=dict)  # for MLflow

    def write(self, tables: Path, figures: Path) -> None:
        """Write its tables and figures into two folders."""
        for table in self.tables:
            write(table, tables)
        for name, figure in self.figures.items():
            drawing.save(figure, figures, name)
