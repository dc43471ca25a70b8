"""`versus probe`: what each model's features are worth before training: linear, nearest-neighbour, few-shot scores.

Of models that start from weights, unless others are named. It needs what split left, trains no network, and keeps the
features, so that another call computes none again. C and k are chosen on validation images; test images are scored once
by what was chosen, and leave a look (`versus looks`).
"""

import argparse
from pathlib import Path

SUMMARY = "Score each model's features before training: linear, nearest neighbours, few images a class"
EXAMPLE = "versus probe"
INTERRUPTED = "features that were computed are kept"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: those that start from weights")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="all numbers as a table, too")


def run(given: argparse.Namespace) -> None:
    from pipeline.base.files import writable_file, written_whole
    from pipeline.base.lines import folded
    from pipeline.params.read import load_params
    from pipeline.report import probes
    from pipeline.report.table import text
    from pipeline.tracking import looks
    from pipeline.trained import frozen

    if given.csv is not None:
        writable_file(given.csv, "--csv")
    found = frozen.all_probed(load_params(), given.models)
    for each in found:
        looks.note_probed(each.model, each.network, each.images)
    table = probes.table(found)
    print(text(table.header, table.cells), folded(table.caption), sep="\n\n")
    if given.csv is not None:
        with written_whole(given.csv) as partial:
            table.frame.to_csv(partial, index=False, lineterminator="\n")
