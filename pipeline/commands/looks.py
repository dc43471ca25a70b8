"""`versus looks`: how often this study's test images were scored, by which models, experiments and commits.

What scores test images leaves a line in the checkout's record (pipeline/records/looks.py), report a study's own lines
in reports/looks.jsonl, for git. `--gather` first adds the evaluations that git's commits and experiments have, and
MLflow's runs.
"""

import argparse

SUMMARY = "List how often the study's test images were scored, and by what"
EXAMPLE = "versus looks --gather"
INTERRUPTED = "the record has no line less than before"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gather", action="store_true", help="first add what git and MLflow know of")


def run(given: argparse.Namespace) -> None:
    from pipeline.base.lines import folded
    from pipeline.base.quantities import enumerated
    from pipeline.params.read import load_params
    from pipeline.records import looks
    from pipeline.records.dataset import Dataset
    from pipeline.report.sections.looks import rows_of, times
    from pipeline.report.table import text
    from pipeline.report.words import counted

    load_params()  # raises where this is no study
    if given.gather:
        gathered()
    found = looks.at(Dataset.read())
    if not found:
        print("looks: the record has no look at these test images; --gather asks git and MLflow")
        return
    header, cells = rows_of(found)
    print(text(header, cells), end="\n\n")
    settings, studies = looks.different(found), enumerated(sorted({look.study for look in found}))
    count = f"{times(len(found))}{looks.kinds(found)}"
    print(folded(f"looks: scored {count}, by {counted(settings, 'setting')}, in {studies}"))


def gathered() -> None:
    """Add to the record what git and MLflow know and it does not; StageError, and nothing, where the store is away."""
    from pipeline.records import looks
    from pipeline.report.words import counted
    from pipeline.tracking import store
    from pipeline.tracking.gathered import from_git, from_mlflow

    known = {look.key for look in looks.known()}
    found, silent = list[looks.Look](), 0
    if store.begun():
        with store.reachable():
            found, silent = from_mlflow(*store.connect())
    fresh = [look for look in looks.merged([*from_git(), *found]) if look.key not in known]
    looks.note(fresh)
    if silent:
        told = counted(silent, "evaluation")
        print(f"looks: passed over {told} in MLflow: file missing, unreadable or of an earlier version")
    print(f"looks: {len(fresh)} that git or MLflow knew of; `dvc repro -f report` puts them into {looks.COMMITTED}")
