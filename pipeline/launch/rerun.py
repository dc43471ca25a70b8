"""Run a study again as it is committed, each training with as many threads as it had, for `versus verify`.

A CPU adds up in an order that depends on the number of threads. DVC does not look at that number, and `versus launch`
divides the cores among its workers.
"""

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.files import locked, remove
from pipeline.base.git import dvc
from pipeline.base.git import git as git_git
from pipeline.params.read import load_params
from pipeline.records import looks
from pipeline.trained import leftovers

git = functools.partial(git_git, "verify")
COMMIT = "`dvc repro`, then `git add` and `git commit` what it leaves"
SCRATCH = Path(".versus/verify")  # below the checkout's root: for each study `committed` and `rerun`


@contextlib.contextmanager
def rerun(study: Path) -> Iterator[tuple[Path, Path]]:
    """The study's folder in a clone as committed, and in another in which it was run again.

    Nothing is taken from a cache of DVC's that other clones share. One study is run again once at a time. A StageError
    where nothing is committed, or a command fails.
    """
    if not study.is_dir():
        raise StageError(f"{study}: not a folder; give a study's, like studies/mine")
    root, inside = (git(study, "rev-parse", option).strip() for option in ("--show-toplevel", "--show-prefix"))
    scratch = Path(root) / SCRATCH / (inside.strip("/").replace("/", "-") or "root")
    with locked(f"verify-{scratch.name}", "this study is being run again in another process; waiting"):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name in ("committed", "rerun"):
            git(study, "clone", "--quiet", root, str(scratch / name))
        committed, again = (scratch / name / inside for name in ("committed", "rerun"))
        if not (committed / "dvc.lock").exists() or not any((committed / "reports/evaluations").glob("*.json")):
            raise StageError(f"{study}: no results are committed; {COMMIT}")
        (again / "dvc.lock").unlink()  # nothing that is committed is taken for granted
        for path in (again / "reports").iterdir():
            if path.name != looks.COMMITTED.name:  # what was looked at before, whatever comes of this
                remove(path)
        for threads, stages in steps(committed):
            print(f"verify: {' '.join(['dvc repro', *stages])}, {threads} thread{'s' * (threads > 1)}", flush=True)
            if not dvc(again, "repro", "--no-run-cache", *stages, OMP_NUM_THREADS=str(threads)):
                raise StageError(f"verify: dvc repro failed in {again}; what it said stands above")
        yield committed, again


def steps(committed: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers of threads and the stages to run with them, in order; no stages stand for all that are left."""
    trained, evaluated = {}, {}
    settings = load_params(committed / "params.yaml")
    for name in leftovers.trainings(settings):
        path = committed / f"reports/evaluations/{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            trained[name] = content["machine"]["threads"]
        except FileNotFoundError:
            raise StageError(f"{name}: params.yaml names it, and no result of it is committed; {COMMIT}") from None
        except (ValueError, KeyError, TypeError):
            raise StageError(f"{path.name}: as committed, not readable as an evaluation; {COMMIT}") from None
        evaluated[name] = content["cost"].get("cpu_threads", trained[name])  # earlier versions do not say
    counts = sorted({*trained.values(), *evaluated.values()})
    teaching = {name: count for name, count in trained.items() if name.rpartition("-")[0] in settings.teachers}
    every = (("teacher", teaching), ("train", trained), ("evaluate", evaluated))
    for stage, threads in every if len(counts) > 1 else ():
        for count in counts:
            if stages := [f"{stage}@{name}" for name in threads if threads[name] == count]:
                yield count, stages
    yield counts[-1], []
