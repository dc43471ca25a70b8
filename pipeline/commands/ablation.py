"""`versus ablation`: what the study's experiments say of each setting that they vary.

The experiments of the last commit are compared with that commit. An axis is a setting that experiments change alone; a
grid is a set of settings that they change together, for which main effects are given. Before them, every setting that
was tried: paired differences, corrected for how many. Leaves reports/ablation/: tables, figures and one self-contained
ablation.html.
"""

import argparse

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole

SUMMARY = "Compare the study's experiments with the last commit, setting by setting"
EXAMPLE = "versus ablation"
INTERRUPTED = "reports/ablation is as it was"
REMEDY = "queue some and run them, such as `dvc exp run --queue -S models.hybrid.depth=1,4 && dvc queue start`"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.base.lines import folded
    from pipeline.report import experiments
    from pipeline.report.ablation import FOLDER, axis_section, grid_section, page, tried_section
    from pipeline.report.table import text
    from pipeline.report.words import counted
    from pipeline.scoring.ablation import axes, crossings
    from pipeline.scoring.tried import compare

    base, finished, failed = experiments.read(experiments.show())
    lines, grids = axes(base, finished), crossings(base, finished)
    if not lines and not grids:
        raise StageError(f"ablation: no finished experiment of the last commit changes a setting; {REMEDY}")
    comparison = compare(base, finished, experiments.replicates)
    with written_whole(FOLDER) as folder:
        folder.mkdir(parents=True)
        sections = [tried_section(comparison)]
        sections += [axis_section(key, points) for key, points in lines.items()]
        sections += [grid_section(grid) for grid in grids]
        for section in sections:
            section.write(folder, folder)
        html = page(sections, folder, len(finished), failed)
        (folder / "ablation.html").write_text(html, encoding="utf-8")
    for section in sections:
        (table,) = section.tables
        print("\n".join(["", section.title, text(table.header, table.cells), *map(folded, section.lines)]))
    print(f"\nablation: {counted(len(finished), 'experiment')}, {failed} without a result; {FOLDER / 'ablation.html'}")
