"""`python trainings.pyz`: a pack's trainings on the machine that it was brought to.

Each training is a process of its own (worker.py); as many run at a time as the machine takes (crew.py). What is done,
and the states of what is not, goes into the result when all is done, when time is up, or on Ctrl-C.
"""

import argparse
import math
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.anywhere import results
from pipeline.anywhere.contents import Contents, environment
from pipeline.anywhere.crew import Crew
from pipeline.anywhere.worker import machine
from pipeline.base.numbers import size
from pipeline.base.places import cores
from pipeline.base.process import run

WRITING, LEAST = 0.04, 10  # share of the time that is kept for ending and writing, and seconds of it at least


def main(pack: Path, folder: Path, started: float) -> None:
    """Run what `pack` holds; it was unpacked to `folder`, and `started` in seconds since 1970."""
    run(
        lambda: call(arguments(pack), Contents.open(pack, folder), started),
        alone=False,
        interrupted="what was done is kept",
    )


def arguments(pack: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python {pack.name}",
        description="Train what was packed, on this machine, and leave results to bring home.",
        epilog=f"example:\n  python {pack.name} --time 540\nthen, at home: versus unpack results*.zip",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--time", type=float, default=float("inf"), metavar="S", help="end before so many seconds")
    parser.add_argument("--out", type=Path, default=Path("results.zip"), metavar="FILE", help="results.zip")
    parser.add_argument("--part", type=size, metavar="SIZE", help="bytes of a part of the result at most: 15M")
    parser.add_argument(
        "--from", dest="earlier", type=Path, nargs="+", default=[], metavar="FILE", help="go on from earlier results"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="trainings at a time, rather than what is measured")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of each training")
    parser.add_argument("--check", action="store_true", help="say what the machine has and whether all would run")
    parser.add_argument("--bench", action="store_true", help="measure the rows of `make bench-gpu` in two minutes")
    return parser.parse_args()


def call(given: argparse.Namespace, contents: Contents, started: float) -> None:
    contents.lay_out()
    if given.check or given.bench:
        check = ("pipeline.anywhere.checks", str(contents.pack), str(contents.folder))
        module = check if given.check else ("benchmarks", "gpu")
        added = environment(contents.folder, contents.folder, given.threads or len(cores()))
        sys.exit(subprocess.call([sys.executable, "-m", *module], cwd=contents.folder, env={**added, "SHORT": "1"}))
    for result in results.read(given.earlier, contents.keys()):
        contents.take(result)
    until = started + given.time - max(LEAST, WRITING * given.time) if given.time < math.inf else math.inf
    crew = Crew(contents, until, given.workers, given.threads)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        crew.run()
    except KeyboardInterrupt:
        print("interrupted; what there is, is written", flush=True)
    finally:
        crew.end()
        written = contents.write_result(given.out, given.part or contents.part, crew.outcomes(), machine())
    told = ", ".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in written)
    print(f"{crew.summary()}\nbring home: {told}\nand there: versus unpack {given.out.stem}*{given.out.suffix}")
    if crew.failed():
        sys.exit(1)


def interrupt(*_: object) -> None:
    """SIGTERM ends as Ctrl-C does."""
    raise KeyboardInterrupt
