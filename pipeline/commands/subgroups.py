"""`versus subgroups`: how accurate models are on subgroups of the test images, and the clearest gap between two.

By what the study knows of them, or by a table (CSV) with a column `image`, the names that `versus mistakes` lists, and
one for each attribute, as age, camera or hospital. It needs the committed reports alone: no image is scored again.
"""

import argparse
from pathlib import Path

SUMMARY = "Score models on subgroups of the test images, by their attributes"
EXAMPLE = "versus subgroups attributes.csv"
INTERRUPTED = "nothing was written"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "attributes",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="CSV: image, and a column for each attribute (default: the attributes that the study knows)",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="both tables as CSV, Markdown and LaTeX, too")


def run(given: argparse.Namespace) -> None:
    from pipeline.base.files import writable
    from pipeline.base.lines import folded
    from pipeline.params.read import load_params
    from pipeline.report import results, subgroups
    from pipeline.report.table import text, write

    if given.out is not None:
        writable(given.out, "--out")
    found = results.read(load_params())
    known = subgroups.attributes(found, given.attributes)
    tables = subgroups.tables(found, known, subgroups.gaps(found, known))
    for table in tables:
        print(text(table.header, table.cells), folded(table.caption), sep="\n\n", end="\n\n")
    if given.out is not None:
        for table in tables:
            write(table, given.out)
