"""`versus models`: the trained models of a study, with their scores."""

import argparse

SUMMARY = "List the study's trained models with their scores"
EXAMPLE = "versus models --json"
INTERRUPTED = "nothing was changed"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(given: argparse.Namespace) -> None:
    from pipeline.trained.listing import as_json, as_table, listed

    models = listed()
    print(as_json(models) if given.json else as_table(models))
