"""The report's tables: data frames, and one table as CSV (full precision), Markdown and LaTeX (for reading).

A frame holds numbers, one row a line; `Table.cells` are the same lines as text. What is undefined is empty in the CSV
and a dash in the text, never 0.
"""

import itertools
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype
from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

from pipeline.base import escape
from pipeline.base.errors import shown
from pipeline.base.lines import WIDTH
from pipeline.report.words import mean_and_interval
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


def model_table(
    name: str, titles: Mapping[str, str], lines: Mapping[str, Mapping[str, Interval]], caption: str
) -> Table:
    """A line for each model and a column for each of `titles`, with intervals where there are any."""
    cells = [
        (model, *(mean_and_interval(*values[key].numbers) for key in titles), str(values["accuracy"].n))
        for model, values in lines.items()
    ]
    return Table(name, caption, model_frame(lines, titles), ("Model", *titles.values(), "n"), tuple(cells))


def model_frame(lines: Mapping[str, Mapping[str, Interval]], names: Iterable[str]) -> pd.DataFrame:
    """A row for each model: of each name the mean, `_low` and `_high`, and n at the end."""
    fields = (("", "mean"), ("_low", "low"), ("_high", "high"))
    return pd.DataFrame(
        {"model": model}
        | {name + suffix: getattr(values[name], field) for name in names for suffix, field in fields}
        | {"n": values["accuracy"].n}
        for model, values in lines.items()
    )


def summary(name: str, values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean, and with several replicates standard deviation and number, of the values (R,) that are defined."""
    defined = values[~np.isnan(values)]
    row = {name: float(defined.mean()) if len(defined) else math.nan}
    if len(values) > 1:
        row[f"{name}_sd"] = float(defined.std(ddof=1)) if len(defined) > 1 else math.nan
        row[f"{name}_n"] = len(defined)
    return row


# files


def write(table: Table, folder: Path) -> None:
    """Write `name`.csv, .md and .tex into `folder`."""
    safe = table.frame.apply(lambda values: values if is_numeric_dtype(values) else values.map(escape.cell))
    safe.rename(columns=escape.cell).to_csv(folder / f"{table.name}.csv", index=False, lineterminator="\n")
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


FEWEST = 3  # columns in a terminal: what, of which model, a value
LONGEST = 30  # characters of a cell there, where a table is too wide
GAP = 2  # characters between two

# Layouts of tabulate. The heading is its first line, with a rule below: a column that it knows to have a heading is two
# characters wider than its widest text.


def _colons(widths: Sequence[int], aligns: Sequence[str]) -> str:
    """The rule of a table in Markdown; a colon stands where a column's texts begin or end."""
    dashes = ["-" * max(1, width - 3) for width in widths]  # a space stands on both sides
    ends = [f":{line}" if align == "left" else f"{line}:" for line, align in zip(dashes, aligns, strict=True)]
    return f"| {' | '.join(ends)} |"


MARKDOWN = TableFormat(None, _colons, None, None, None, DataRow("|", "|", "|"), 1, None)
TERMINAL = TableFormat(None, Line("", "─", "  ", ""), None, None, None, DataRow("", "  ", ""), 0, None)
BOOKTABS = TableFormat(None, Line(r"\midrule", "", "", ""), None, None, None, DataRow("", " & ", r" \\"), 0, None)


def markdown(table: Table) -> str:
    rows = [[escape.markdown(cell) for cell in row] for row in (table.header, *table.cells)]
    return f"{escape.markdown(table.caption)}\n\n{_aligned(rows, MARKDOWN)}\n"


def text(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Aligned columns; where a terminal has no room for them, long cells are cut and the last columns left out by name.

    FEWEST of them stay. What is no terminal gets all.
    """
    rows = [[shown(cell) for cell in row] for row in (header, *cells)]
    if not sys.stdout.isatty() or _room(rows) == len(header):
        return _aligned(rows, TERMINAL)
    rows = [[cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 1]}…" for cell in row] for row in rows]
    room = max(FEWEST, _room(rows))
    left_out = f"\n[no room for: {', '.join(rows[0][room:])}]" if rows[0][room:] else ""
    return _aligned([row[:room] for row in rows], TERMINAL) + left_out


def _room(rows: Sequence[Sequence[str]]) -> int:
    """How many columns, from the left, have room in a line."""
    ends = itertools.accumulate(max(map(len, column)) + GAP for column in zip(*rows, strict=True))
    return sum(end - GAP <= WIDTH for end in ends)


def _aligned(rows: Sequence[Sequence[str]], layout: TableFormat) -> str:
    """The first column to the left, the others to the right; a rule below the first line."""
    sides = ("left", *["right"] * (len(rows[0]) - 1))
    return tabulate([rows[0], SEPARATING_LINE, *rows[1:]], tablefmt=layout, colalign=sides, disable_numparse=True)


def latex(table: Table) -> str:
    """A floating table; wants the package booktabs."""
    lines = [[escape.latex(cell) for cell in row] for row in (table.header, *table.cells)]
    for place in reversed((0, *table.rules)):
        lines.insert(place + 1, SEPARATING_LINE)
    columns = "l" + "r" * (len(table.header) - 1)
    label = re.sub(r"[^A-Za-z0-9]+", "-", table.name).strip("-")
    return LATEX.format(
        caption=escape.latex(table.caption),
        label=label,
        columns=columns,
        lines=tabulate(lines, tablefmt=BOOKTABS, stralign=None, disable_numparse=True),
    )


LATEX = r"""% needs \usepackage{{booktabs}}
\begin{{table}}
\centering
\caption{{{caption}}}
\label{{tab:{label}}}
\begin{{tabular}}{{{columns}}}
\toprule
{lines}
\bottomrule
\end{{tabular}}
\end{{table}}
"""
