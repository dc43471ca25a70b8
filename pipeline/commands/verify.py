"""`versus verify`: whether a study that is run again gives what it gave, or two runs of it agree."""

import argparse
import contextlib
import sys
from pathlib import Path

from pipeline.base.numbers import amount

SUMMARY = "Rerun a study as it is committed, or compare two runs of it, and say what differs"
EXAMPLE = "versus verify . ../rerun --tolerance 0.01"
INTERRUPTED = "nothing is said of the results, which stay as they were; the same command starts anew"


def arguments(parser: argparse.ArgumentParser) -> None:
    committed = "a study's folder (this one)"
    parser.add_argument("committed", type=Path, nargs="?", default=Path(), metavar="COMMITTED", help=committed)
    rerun = "the same study's folder in another checkout; without, COMMITTED is run again in a fresh clone"
    parser.add_argument("rerun", type=Path, nargs="?", metavar="RERUN", help=rerun)
    tolerance = "by how much a mean score may differ (0: not a bit)"
    parser.add_argument("--tolerance", type=amount, default=0.0, metavar="X", help=tolerance)


def run(given: argparse.Namespace) -> None:
    from pipeline.launch.rerun import rerun
    from pipeline.report.agreement import verify

    folders = contextlib.nullcontext((given.committed, given.rerun)) if given.rerun else rerun(given.committed)
    with folders as (committed, again):
        held = verify(committed, again, given.tolerance)
    if not held:
        sys.exit(1)
