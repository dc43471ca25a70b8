"""`versus summary`: models over data sets, from the committed reports of several studies.

It needs no images, weights or cache. Studies of different protocols are refused (report/protocols.py says what has to
be the same), and two of one data set; folders that hold no results are named and left out. Leaves reports/summary/:
tables (CSV, Markdown, LaTeX) and a figure of mean ranks.
"""

import argparse
from pathlib import Path

SUMMARY = "Compare models over the data sets of several studies, by mean ranks"
EXAMPLE = "versus summary studies/*"
INTERRUPTED = "reports/summary is as it was"
METRICS = ("macro_f1", "accuracy", "weighted_f1", "balanced_accuracy")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="folders of studies that have run")
    parser.add_argument("--metric", choices=METRICS, default=METRICS[0], help="what is ranked; default: %(default)s")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these; default: all shared ones")


def run(given: argparse.Namespace) -> None:
    from pipeline.base.errors import StageError
    from pipeline.base.files import written_whole
    from pipeline.base.lines import folded
    from pipeline.report import protocols
    from pipeline.report.summary import FOLDER, summary
    from pipeline.report.table import text
    from pipeline.report.words import counted

    found = {folder: protocols.read(folder) for folder in dict.fromkeys(given.studies)}
    studies = [each for each in found.values() if each]
    if not studies:
        raise StageError("summary: none of these folders has results (reports/metrics.json); run a study first")
    models = protocols.shared_models(studies, given.models)
    protocols.refuse_mixture(studies, models)
    section = summary(studies, models, given.metric)
    with written_whole(FOLDER) as folder:
        folder.mkdir(parents=True)
        section.write(folder, folder)
    for table in section.tables:
        print(text(table.header, table.cells), end="\n\n")
    empty = [str(folder) for folder, each in found.items() if each is None]
    left_out = [f"without results, left out: {', '.join(empty)}"] if empty else []
    told = f"summary: {counted(len(studies), 'study', 'studies')}, {counted(len(models), 'model')}: {FOLDER}"
    print(folded("\n".join([*section.lines, *left_out, told])))
