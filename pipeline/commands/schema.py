"""`versus schema`: what is made from the code is written anew."""

import argparse

SUMMARY = "Write what is made from the code: schema and tables of the docs"
EXAMPLE = "versus schema"
INTERRUPTED = "nothing was changed"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.params import schema

    schema.main()
