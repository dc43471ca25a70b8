"""`versus schema`: what is made from the code, or copied from the root, is written anew."""

import argparse

SUMMARY = "Write what is made from the code: schema, tables of the docs, the studies' dvc.yaml"
EXAMPLE = "versus schema"
INTERRUPTED = "nothing was changed"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.drafting import folder
    from pipeline.params import schema

    schema.main()
    folder.follow_root()
