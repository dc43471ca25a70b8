"""How much sooner `versus launch` with a worker a core is done than `dvc repro`, and whether the results are the same.

`python -m benchmarks.launching STUDY [KEY=VALUE...]`: a study's folder, and what to change in its params.yaml, as
`dvc exp run -S` takes it. Each side runs the whole study, from fetch to report, in a copy of the working tree with a
cache of its own: serially with one thread, which is what launched trainings have; serially with all cores; launched.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bench
from pipeline.base import places
from pipeline.launch import plan
from tests import repo

VERSUS = (sys.executable, "-m", "pipeline.cli")


def seconds(folder: Path, study: str, changes: Sequence[str], threads: int, *command: str) -> float:
    """Wall clock of one side."""
    folder.mkdir()
    repo.copy(folder)
    if changes:
        plan.override(folder / study, changes)
    return bench.seconds(
        lambda: repo.call(folder / study, *command, OMP_NUM_THREADS=str(threads), PYTHONPATH=str(folder))
    )


def main() -> None:
    study, *changes = sys.argv[1:] or ["."]
    cores = len(places.cores())
    launch = (*VERSUS, "launch", "--on", "local", "--workers", str(cores))
    with tempfile.TemporaryDirectory() as name:
        sides = {"serial": (1, "dvc", "repro"), "all_cores": (cores, "dvc", "repro"), "launched": (1, *launch)}
        took = {}
        for side, (threads, *command) in sides.items():
            took[side] = seconds(Path(name) / side, study, changes, threads, *command)
            print(f"{side}: {took[side]:.0f} s", flush=True)
        folders = [str(Path(name) / side / study) for side in ("serial", "launched")]
        print(repo.call(repo.ROOT, *VERSUS, "verify", *folders), end="")
        says = " and ".join(f"{took[side] / took['launched']:.2f}x {side}" for side in ("serial", "all_cores"))
        print(f"{study} {' '.join(changes)}: {cores} workers on {cores} of {os.cpu_count()} cores: {says}")


if __name__ == "__main__":
    main()
