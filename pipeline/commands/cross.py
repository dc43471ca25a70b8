"""`versus cross`: trained models on the test images of other expression data sets.

The folder that it runs in, studies/cross_fer, has cross.yaml, which names the models ({path, sha256}: the folder that
train left, the SHA-256 of its weights) and the data sets. Leaves reports/cross.json, and in reports/cross/ a matrix of
models and data sets: a table (CSV, Markdown, LaTeX) and a heat map.
"""

import argparse
from pathlib import Path

from pipeline.base.files import write_json, written_whole
from pipeline.base.places import study

SUMMARY = "Score trained models on the test images of other data sets, as cross.yaml names them"
EXAMPLE = "versus cross"
INTERRUPTED = "reports/cross.json and reports/cross are as they were"
REPORTS = Path("reports")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.records import looks
    from pipeline.report import cross, drawing
    from pipeline.report.table import write
    from pipeline.tracking.looks import note_others
    from pipeline.trained.cross import read, scored

    settings = read()
    results = scored(settings)
    note_others(settings.models, [given.name for given in settings.datasets.values()])
    with written_whole(REPORTS / "cross") as folder:
        folder.mkdir(parents=True)
        write(cross.table(results), folder)
        drawing.save(cross.heat_map(results), folder, "cross")
    with written_whole(REPORTS / "cross.json") as partial:
        write_json(partial, results)
    looks.keep(study())
    print(f"cross: {len(settings.models)} models on {len(settings.datasets)} data sets: {REPORTS / 'cross'}")
