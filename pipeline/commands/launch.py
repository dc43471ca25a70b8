"""`versus launch`: the trainings of a study, or of a grid of experiments, beside each other."""

import argparse

from pipeline.base.errors import StageError
from pipeline.base.numbers import natural, positive
from pipeline.launch.executor import EXECUTORS

SUMMARY = "Train what DVC would train, several models at a time, here or on a Slurm cluster"
EXAMPLE = "versus launch --on slurm --slurm partition=gpu --slurm gres=gpu:1 -S augment.strength=0.5,1.0"
INTERRUPTED = "what was finished stays, `versus launch` goes on from there"


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--on", choices=EXECUTORS, default="local", help="where; local is this machine")
    workers = "trainings at a time; one for each GPU, else cores/2, two at least"
    add("--workers", type=positive, metavar="N", help=workers)
    add("-S", action="append", default=[], metavar="KEY=V,V", help="a grid, as dvc exp run --queue takes it")
    add("--slurm", action="append", default=[], metavar="OPTION=V", help="an option of sbatch: mem=16G")
    add("--retries", type=natural, metavar="N", help="of a training that died; 2")
    add("--through-remote", action="store_true", help="share by the default DVC remote, not by the cache")
    add("--no-finish", action="store_true", help="leave the final dvc repro, which makes the report, to you")
    add("--status", action="store_true", help="show what is queued, running, done and failed, with logs")
    add("--stop", action="store_true", help="end the launch that runs in another terminal")


def run(given: argparse.Namespace) -> None:
    from pipeline.launch import launcher, status

    if given.status:
        status.status()
    elif given.stop:
        status.stop()
    else:
        asked = launcher.Asked(
            given.on,
            overrides=given.S,
            workers=given.workers,
            retries=given.retries,
            resources=options_of_sbatch(given.slurm),
            through_remote=given.through_remote,
            finish=not given.no_finish,
        )
        launcher.launch(asked)


def options_of_sbatch(texts: list[str]) -> dict[str, str]:
    """["mem=16G"] -> {"mem": "16G"}; raises StageError for what is no option with a value."""
    if wrong := [text for text in texts if "=" not in text]:
        raise StageError(f"launch: --slurm {wrong[0]}: give an option of sbatch as OPTION=VALUE, such as mem=16G")
    return dict(text.split("=", 1) for text in texts)
