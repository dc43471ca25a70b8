"""`versus prune`: what killed and failed stages and removed models left behind, listed and removed on request.

That is: states of trainings that nobody went on with, MLflow runs that ended as KILLED or FAILED, and files that a
killed process was writing. Entries of DVC's run-cache that DVC was killed in the middle of go whatever their age: DVC
stops at such a one ever after. Weights and results of trainings that params.yaml of the study in the current folder
does not name go whatever their age too; those in git are marked. No run that FINISHED is touched, nor that of a
training that can still be gone on with, nor what a living process has open. For results that no commit names, DVC has
`dvc gc`.
"""

import argparse
from typing import TYPE_CHECKING

from pipeline.base.errors import legible
from pipeline.base.numbers import amount
from pipeline.base.quantities import size

if TYPE_CHECKING:
    from pipeline.trained.remains import Remains

SUMMARY = "List what killed and failed stages and removed models left, and remove it with --yes"
EXAMPLE = "versus prune --days 1 --yes"
INTERRUPTED = "what was removed stays removed, the same command goes on with the rest"
BACK = (
    "What params.yaml does not name comes back: what is in git by `git checkout`, what is not from DVC's cache, by"
    " `dvc repro` where params.yaml names it again."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=amount, default=7, metavar="N", help="only what is older than N days (7)")
    parser.add_argument("--yes", action="store_true", help="remove it; without, it is listed only")


def run(given: argparse.Namespace) -> None:
    prune(given.days, given.yes)


def prune(days: float = 7, yes: bool = False) -> None:
    """List what is older than `days`, and remove it if `yes`."""
    from pipeline.tracking import broken
    from pipeline.trained import remains

    unnamed = remains.unnamed_results()
    found = [*older(days), *remains.unfinished_entries(), *unnamed]
    if not found:
        print(f"prune: nothing that is older than {days:g} days")
        return
    for left in found:
        print(f"{size(left.bytes):>9}  {left.age / remains.DAY:6.1f} days  {legible(left.what)}")
    total = size(sum(left.bytes for left in found))
    if unnamed:
        print(BACK)
    if not yes:
        print(f"prune: {len(found)} of these, {total}; `versus prune --days {days:g} --yes` removes them")
        return
    stay = [left for left in found if not left.remove()]  # states first: a training may just now go on from one
    needed = remains.runs_of(stay) - {""}
    stay += [left for left in found if left.run in needed]
    broken.delete_runs([left.run for left in found if left.run and left.run not in needed])
    gone = [left for left in found if left not in stay]
    kept = f"; {len(stay)} of a training that goes on stay" * bool(stay)
    print(f"prune: removed {len(gone)}, {size(sum(left.bytes for left in gone))} freed{kept}")


def older(days: float) -> "list[Remains]":
    """States of trainings, MLflow runs and half-written files; of runs none of a training whose state stays."""
    from pipeline.tracking import broken
    from pipeline.trained import remains

    def old(found: "list[Remains]") -> "list[Remains]":
        return [left for left in found if left.age >= days * remains.DAY]

    states = remains.states()
    gone = old(states)
    resumable = remains.runs_of([state for state in states if state not in gone])
    runs = [
        remains.Remains(f"MLflow run {one.name} of {one.study}, {one.status}", one.bytes, one.age, run=one.id)
        for one in broken.broken_runs()
        if one.id not in resumable
    ]
    return [*gone, *old(runs), *old(remains.partial_files())]
