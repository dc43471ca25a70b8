"""`versus check`: whether params.yaml is in order, without a stage being run."""

import argparse

SUMMARY = "Refuse a params.yaml that has a fault, and name it"
EXAMPLE = "versus check"
INTERRUPTED = "nothing was changed"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.stages import check

    check.main()
