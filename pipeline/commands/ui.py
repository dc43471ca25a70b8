"""`versus ui`: MLflow's pages of the runs, on this machine, opened where the scores are."""

import argparse

SUMMARY = "Browse the runs in MLflow's UI, on this machine only"
EXAMPLE = "versus ui --port 5001"
INTERRUPTED = "nothing was changed"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=5000, help="where it listens; 0 is any free one (default: %(default)s)"
    )


def run(given: argparse.Namespace) -> None:
    from pipeline.tracking import ui

    ui.serve(given.port)
