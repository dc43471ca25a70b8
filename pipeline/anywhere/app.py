"""`python trainings.pyz`: a pack's trainings on the machine that it was brought to.

Each training is a process of its own (worker.py); as many run at a time as the machine takes (crew.py). What is done,
and the states of what is not, goes into the result when all is done, when time is up, on Ctrl-C and on SIGTERM.
"""

import argparse
import math
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.anywhere import results
from pipeline.anywhere.contents import Contents, environment, most_files
from pipeline.base import quantities
from pipeline.base.errors import StageError
from pipeline.base.files import writable_file
from pipeline.base.numbers import amount, positive, size
from pipeline.base.places import cores
from pipeline.base.process import run

INTERRUPTED = 130  # the exit status
BENCH = 120  # seconds


def main(pack: Path, folder: Path, started: float) -> None:
    """Run what `pack` holds; it was unpacked to `folder`, and `started` in seconds since 1970."""
    given = arguments(pack)
    run(
        lambda: call(given, Contents.open(pack, folder), started),
        alone=False,
        interrupted="what was done is kept; the same command goes on",
        again=f"python {shlex.quote(pack.name)}",
    )


def arguments(pack: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python {pack.name}",
        description="Train what was packed, on this machine, and leave results to bring home.",
        epilog=f"example:\n  python {pack.name} --time 540\nthen, at home:\n  versus unpack results*.zip",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--time", type=amount, default=math.inf, metavar="S", help="end before so many seconds")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results.zip"),
        metavar="FILE",
        help="the result, added to what is there (results.zip)",
    )
    parser.add_argument("--part", type=size, metavar="SIZE", help="bytes of a part of the result at most, such as 15M")
    parser.add_argument(
        "--from", dest="earlier", type=Path, nargs="+", default=[], metavar="FILE", help="go on from earlier results"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="trainings at a time, not what is measured")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads of each training")
    parser.add_argument("--check", action="store_true", help="say what the machine has and whether all would run")
    parser.add_argument("--bench", action="store_true", help="measure the machine's GPU, two minutes at most")
    return parser.parse_args()


def call(given: argparse.Namespace, contents: Contents, started: float) -> None:
    """Do what the command line asks for."""
    part = given.part or contents.part
    if part < (least := results.least(most_files(contents.tasks))):
        raise StageError(f"--part: {part} bytes hold little more than the result's own list; give {least} or more")
    if given.bench:
        sys.exit(bench(contents))
    writable_file(given.out, "--out")
    contents.lay_out()
    if given.check:
        sys.exit(in_folder(contents, "pipeline.anywhere.checks", str(contents.pack), str(contents.folder)))
    go_on(contents, given.earlier, given.out)
    train(given, contents, part, started)


def go_on(contents: Contents, named: Sequence[Path], out: Path) -> None:
    """Take what the results in `named` have, and what that at `out` has, which is to be replaced by no less.

    Says of how many trainings parts of a result are missing; raises StageError as results.standing and
    Contents.refuse_loss do.
    """
    standing = results.standing(out, contents.keys())
    earlier = results.read([*named, *standing], contents.keys())
    contents.take(earlier)
    contents.refuse_loss(standing)
    if cut := contents.lacking([result.manifest for result in earlier]):
        some = f"{len(cut)} training{'s' * (len(cut) > 1)} ({cut[0]}{', ...' * (len(cut) > 1)})"
        print(f"--from: of {some} files are in parts that were not named; not gone on from there", flush=True)


def bench(contents: Contents) -> int:
    """The rows that need a GPU, short; returns the exit status."""
    try:
        return in_folder(contents, "benchmarks", "gpu", SHORT="1", timeout=BENCH)
    except subprocess.TimeoutExpired:
        print(f"{BENCH} s are over; the rows above are what there is")
        return 0


def in_folder(contents: Contents, module: str, *words: str, timeout: float | None = None, **added: str) -> int:
    """Run a module of the pack as a process; returns the exit status."""
    given = {**environment(contents.folder, contents.folder, len(cores())), **added}
    return subprocess.call([sys.executable, "-m", module, *words], cwd=contents.folder, env=given, timeout=timeout)


def train(given: argparse.Namespace, contents: Contents, part: int, started: float) -> None:
    """Run the trainings, write the result, and say where it is."""
    from pipeline.anywhere.crew import Crew  # late, as torch takes seconds that --help need not wait for
    from pipeline.anywhere.worker import machine

    crew, interrupted = Crew(contents, started + given.time, given.workers, given.threads), False
    signal.signal(signal.SIGTERM, interrupt)
    try:
        crew.run()
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; what there is, is written", flush=True)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what is written now is what all was for
        crew.end()
        written = contents.write_result(given.out, part, crew.outcomes(), machine())
    print(f"{crew.summary()}\n{bring_home(written)}", flush=True)
    if interrupted or crew.failed():
        sys.exit(INTERRUPTED if interrupted else 1)


def bring_home(written: Sequence[Path]) -> str:
    """What is to be done with the result."""
    told = ", ".join(f"{path} ({quantities.size(path.stat().st_size)})" for path in written)
    return f"bring home: {told}\nand there: versus unpack {shlex.join(path.name for path in written)}"


def interrupt(*_: object) -> None:
    """SIGTERM ends as Ctrl-C does."""
    raise KeyboardInterrupt
