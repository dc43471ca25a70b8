"""The report's tables: data frames, and one table as CSV (full precision), Markdown and LaTeX (for reading).

A frame holds numbers, one row a line; `Table.cells` are the same lines as text. What is undefined is empty in the CSV
and a dash in the text, never 0.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from pipeline.base import escape
from pipeline.base.errors import shown
from pipeline.report.words import _bare
from pipeline.scoring.intervals import Interval


@dataclass(frozen=True)
class Table:
    """`frame` has the numbers, `header` and `cells` the text; the first column names the line, the others are values.

    `rules` are the lines before which a horizontal rule is drawn.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    rules: tuple[int, ...] = ()


def _bare_table(
    name: str, titles: Mapping[str, str], lines: Mapping[str, Mapping[str, Interval]], caption: str
) -> Table:
    """A line for each model and a column for each of `titles`, with intervals where there are any."""
    cells = [
        (model, *(_bare(values[key]) for key in titles), str(values["accuracy"].n)) for model, values in lines.items()
    ]
    return Table(name, caption, _numbers(lines, titles), ("Model", *titles.values(), "n"), tuple(cells))


def _numbers(lines: Mapping[str, Mapping[str, Interval]], names: Iterable[str]) -> pd.DataFrame:
    """A row for each model: of each name the mean, `_low` and `_high`, and n at the end."""
    fields = (("", "mean"), ("_low", "low"), ("_high", "high"))
    return pd.DataFrame(
        {"model": model}
        | {name + suffix: getattr(values[name], field) for name in names for suffix, field in fields}
        | {"n": values["accuracy"].n}
        for model, values in lines.items()
    )


# files


def write(table: Table, folder: Path) -> None:
    """Write `name`.csv, .md and .tex into `folder`."""
    safe = table.frame.apply(lambda values: values if is_numeric_dtype(values) else values.map(escape.cell))
    safe.rename(columns=escape.cell).to_csv(folder / f"{table.name}.csv", index=False, lineterminator="\n")
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    rows = [[escape.markdown(cell) for cell in row] for row in (table.header, *table.cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in rows]
    rule = [
        ":" + "-" * (width - 1 or 1) if not place else "-" * (width - 1 or 1) + ":"
        for place, width in enumerate(widths)
    ]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return f"{escape.markdown(table.caption)}\n\n" + "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A floating table; wants the package booktabs."""
    lines = [" & ".join(map(escape.latex, row)) + r" \\" for row in table.cells]
    for place in reversed(table.rules):
        lines.insert(place, r"\midrule")
    columns = "l" + "r" * (len(table.header) - 1)
    label = re.sub(r"[^A-Za-z0-9]+", "-", table.name).strip("-")
    head = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape.latex(table.caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(escape.latex, table.header)) + r" \\",
        r"\midrule",
    ]
    return "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def text(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal."""
    head, *rows = [[shown(cell) for cell in row] for row in (header, *cells)]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_pad(head, widths), ["─" * width for width in widths], *(_pad(row, widths) for row in rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The first column to the left, the others to the right."""
    return [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
