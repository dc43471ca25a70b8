"""`versus pack`: trainings in one file, for another machine."""

import argparse
import shlex
from pathlib import Path

from pipeline.base.numbers import size

SUMMARY = "Put the trainings that DVC would run into one file, for a machine without DVC"
EXAMPLE = "versus pack --only cnn vit -o trainings.pyz"
INTERRUPTED = "no file was written"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", type=Path, nargs="*", metavar="STUDY", help="studies' folders (this one)")
    parser.add_argument("--only", nargs="+", default=[], metavar="MODEL", help="these models alone")
    parser.add_argument("-o", "--out", type=Path, default=Path("trainings.pyz"), metavar="FILE", help="trainings.pyz")
    parser.add_argument(
        "--part", type=size, default=10**12, metavar="SIZE", help="bytes of a part of the results at most, such as 15M"
    )


def run(given: argparse.Namespace) -> None:
    from pipeline.anywhere.pack import pack

    made = pack(given.studies or [Path()], given.only, given.out, given.part)
    print(f"{made}\nthere: python {shlex.quote(given.out.name)}; then here: versus unpack results*.zip")
