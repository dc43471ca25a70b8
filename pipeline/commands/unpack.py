"""`versus unpack`: results of a pack, brought home."""

import argparse
from pathlib import Path

SUMMARY = "Take the results that a pack's trainings left on another machine"
EXAMPLE = "versus unpack results.zip results-2.zip"
INTERRUPTED = "the trainings named above are here, the same command goes on"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="the result's parts")


def run(given: argparse.Namespace) -> None:
    from pipeline.anywhere.unpack import unpack

    unpack(given.results)
    print("unpack: run `dvc repro` for the report")
