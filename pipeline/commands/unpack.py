"""`versus unpack`: results of a pack, brought home."""

import argparse
import sys
from pathlib import Path

SUMMARY = "Take the results that a pack's trainings left on another machine"
EXAMPLE = "versus unpack results.zip results-2.zip"
INTERRUPTED = "the trainings named above are here, the same command goes on"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="the result's parts")


def run(given: argparse.Namespace) -> None:
    from pipeline.anywhere.unpack import unpack

    left = unpack(given.results)
    if not left:
        print("unpack: run `dvc repro` for the report")
        return
    of = f"{left} training{'s' * (left > 1)} of the pack"
    print(f"unpack: {of} did not come home: go on there with `--from` these results; `dvc repro` would train them here")
    sys.exit(1)
