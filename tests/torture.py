"""Kill a study at random moments, again and again, and look whether anything was lost: `python -m tests.torture`.

A cycle runs the whole pipeline from nothing and is killed with SIGKILL at seeded random moments: the stage's process,
DVC's, or both. What `dvc repro` makes of it must be, byte for byte, what an uninterrupted cycle makes. Then experiments
on several workers and a `dvc repro` share one new MLflow store. KILLS and SEED in the environment say how many kills
and which, LIMIT after how many seconds no further cycle begins, TARGETS which stages a cycle ends with where that is
not all; the findings are written to torture.json.
"""

import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil

from pipeline.trained import remains
from tests import repo

EPOCHS = 6
PER_CYCLE = 12  # kills at most, each within a quarter of an uninterrupted run's time after a start
MODEL = {"family": "tiny", "layers": ["conv 4", "pool", "conv 8"], "pretrained": False, "augment": {}, "train": {}}
SETTINGS = {
    "dataset.image_size": 16,
    "replicates": [0],
    "train.device": "cpu",
    "train.epochs": EPOCHS,
    "train.warmup_epochs": 0,
    "models": {"tiny": MODEL},
}
TARGETS = os.environ.get("TARGETS", "").split()
TIMED = ("seconds", "started", "images_per_second", "mlflow_run", "usage")  # of run.json: when, not what
DAMAGED = ("corrupted", "is invalid", "not 'NoneType'")  # what DVC says where it was killed in the middle of writing


def study(folder: Path) -> Path:
    repo.copy(folder)
    repo.change(folder, SETTINGS)
    repo.commit(folder)
    return folder


def start(folder: Path, output: Any) -> subprocess.Popen:
    return subprocess.Popen(
        ["dvc", "repro", *TARGETS],
        cwd=folder,
        env={**repo.user(), "PYTHONUNBUFFERED": "1"},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill(process: subprocess.Popen, whom: str) -> str:
    """SIGKILL; `whom` is stage, dvc or both. The stage that was running, as its command says."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return "none"
    stage = "dvc"
    for child in children:
        with contextlib.suppress(psutil.Error):
            words = " ".join(child.cmdline()).split()
            stage = next((word.removeprefix("pipeline.") for word in words if word.startswith("pipeline.")), stage)
    for child in children if whom != "dvc" else []:
        with contextlib.suppress(psutil.Error):
            child.kill()
    if whom != "stage":
        process.kill()
    process.wait()
    return stage


def mend(folder: Path, output: str) -> bool:
    """Where DVC was killed while it wrote a file of its own: what docs/trust.md says one does then."""
    said = [word for word in DAMAGED if word in output]
    if "not 'NoneType'" in said:
        time.sleep(remains.MAKING)
        removed = repo.call(folder, sys.executable, "-m", "pipeline.cli", "prune", "--yes")
        assert "unfinished .dvc/cache/runs" in removed, output
    elif said:
        for name in ("dvc.lock", ".dvc/tmp/rwlock"):
            (folder / name).unlink(missing_ok=True)
    return bool(said)


def fresh(folder: Path) -> None:
    """Nothing of what was run is known any more; the MLflow store stays."""
    for name in ("dvc.lock", "data", "models", "reports", ".dvc/cache"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def cycle(folder: Path, chance: random.Random, kills: int, longest: float, found: Counter) -> str:
    """One run of the pipeline with up to `kills` kills, each at most `longest` seconds after a start; DVC's output."""
    log = folder / "output.txt"
    for remaining in [*range(kills, 0, -1), 0]:
        with log.open("w") as output:
            process = start(folder, output)
            try:
                process.wait(chance.uniform(0.5, longest) if remaining else None)
            except subprocess.TimeoutExpired:
                pass
            except BaseException:
                kill(process, "both")
                raise
            killed = process.poll() is None
            if killed:
                whom = chance.choice(("stage", "dvc", "both"))
                place = f"{kill(process, whom)}, {whom}"
                found[place] += 1
                found["kills"] += 1
        said = log.read_text(errors="replace")  # a process that lives on writes here too
        with (folder / "outputs.txt").open("a") as file:
            file.write(f"{said}\n== {f'killed: {place}' if killed else 'ended'} at {time.time():.1f}\n")
        if killed:
            continue
        if process.returncode and mend(folder, said):
            found["DVC's own file damaged"] += 1
            return cycle(folder, chance, max(remaining - 1, 0), longest, found)
        assert process.returncode == 0, said
        return said
    raise AssertionError("unreachable")


def outcome(folder: Path) -> dict[str, bytes]:
    """What must not depend on kills: all but the times."""
    kept = [path for path in folder.glob("data/**/*") if path.is_file()]
    kept += [*folder.glob("models/tiny-0/*"), *folder.glob("reports/histories/*")]
    kept += [*folder.glob("reports/predictions/*"), *folder.glob("reports/*.json")]
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in kept
        if path.name not in ("metrics.json", "latency.json", ".gitignore")
    }
    diary = json.loads(found["models/tiny-0/run.json"])
    found["models/tiny-0/run.json"] = json.dumps({k: v for k, v in diary.items() if k not in TIMED}).encode()
    return found


def check(folder: Path, reference: dict[str, bytes], cycles: int) -> None:
    """What is promised after a cycle."""
    now = outcome(folder)
    assert sorted(now) == sorted(reference)
    assert not [name for name in now if now[name] != reference[name]]
    assert TARGETS or (folder / "reports/report.html").stat().st_size > 0
    assert not list(folder.rglob("*.part"))
    assert not list((folder / ".versus/resume").glob("*"))
    store = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    runs = list(store.search_runs([experiment.experiment_id], max_results=10_000))
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    trainings = [run for run in runs if run.data.tags["versus.stage"] == "train"]
    told = [f"{run.info.run_id} {run.info.status} from {run.info.start_time}: {run.data.tags}" for run in trainings]
    assert [run.info.status for run in trainings] == ["FINISHED"] * cycles, "\n".join(told)
    for run in trainings:
        for metric in ("train_loss", "val_macro_f1"):
            points = store.get_metric_history(run.info.run_id, metric)
            assert [point.step for point in points] == list(range(1, EPOCHS + 1))


def at_once(folder: Path, experiments: int = 3, workers: int = 3) -> dict[str, Any]:
    """Queued experiments on several workers and a `dvc repro`, all from the store's very first use on; what it holds.

    Each experiment must find its own settings, and no run may be lost.
    """
    rates = [round(0.001 * (number + 2), 4) for number in range(experiments)]  # 0.001 is what `dvc repro` trains with
    for number, rate in enumerate(rates):
        repo.call(folder, "dvc", "exp", "run", "--queue", "--name", f"rate{number}", "-S", f"train.lr={rate}")
    assert not (folder / "mlflow.db").exists()
    repo.call(folder, "dvc", "queue", "start", "--jobs", str(workers))
    repo.call(folder, "dvc", "repro")
    began = time.monotonic()
    while re.search("Running|Queued", status := repo.call(folder, "dvc", "queue", "status")):
        assert time.monotonic() - began < 900, status
        time.sleep(2)
    assert status.count("Success") == experiments, status
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    runs = list(store.search_runs([experiment.experiment_id]))
    assert {run.info.status for run in runs} == {"FINISHED"}
    for number, rate in enumerate(rates):
        own = [run for run in runs if run.data.tags.get("dvc.experiment") == f"rate{number}"]
        stages = sorted(run.data.tags["versus.stage"] for run in own)
        alone = [stage for stage in stages if stage not in ("fetch", "latency")]  # whoever comes first does, for all
        assert alone == ["evaluate", "explain", "labels", "report", "train"], stages
        assert {run.data.params["train.lr"] for run in own if "train.lr" in run.data.params} == {str(rate)}
    trainings = [run.data.params["train.lr"] for run in runs if run.data.tags["versus.stage"] == "train"]
    assert sorted(trainings) == [str(rate) for rate in (0.001, *rates)]
    return {
        "experiments": experiments,
        "workers": workers,
        "runs": len(runs),
        "seconds": round(time.monotonic() - began),
    }


def end_workers(folder: Path) -> None:
    """DVC's workers end by themselves when the queue is empty, but for the one now and then that misses the message."""
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if "queue-worker" in (process.info["cmdline"] or []) and Path(process.cwd()) == folder:
                process.kill()


def uninterrupted(folder: Path, found: Counter) -> tuple[dict[str, bytes], float]:
    started = time.monotonic()
    cycle(folder, random.Random(0), 0, 0, found)
    return outcome(folder), time.monotonic() - started


def main() -> None:
    kills, seed = int(os.environ.get("KILLS", "200")), int(os.environ.get("SEED", "0"))
    limit = float(os.environ.get("LIMIT", "inf"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chance, found, began = random.Random(seed), Counter(), time.monotonic()
    with left_if_it_fails() as folder:
        study(folder)
        reference, seconds = uninterrupted(folder, found)
        cycles, ended = 1, "all kills done"
        while found["kills"] < kills:
            if time.monotonic() - began > limit:
                ended = "out of time"
                break
            fresh(folder)
            cycle(folder, chance, min(PER_CYCLE, kills - found["kills"]), seconds / 4, found)
            cycles += 1
            check(folder, reference, cycles)
            print(f"{found['kills']} kills, {cycles} cycles, {time.monotonic() - began:.0f} s", flush=True)
    result: dict[str, Any] = {
        "kills": found.pop("kills", 0),
        "cycles": cycles,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "uninterrupted_seconds": round(seconds),
        "ended": ended,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "where": dict(sorted(found.items())),
    }
    tell(result)  # before what may fail
    if os.environ.get("AT_ONCE", "1") != "0":
        with tempfile.TemporaryDirectory() as scratch:
            folder = study(Path(scratch))
            try:
                tell({**result, "at_once": at_once(folder)})
            finally:
                end_workers(folder)


@contextlib.contextmanager
def left_if_it_fails() -> Iterator[Path]:
    """A scratch folder; of a failure it stays, with all that was printed in outputs.txt."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield folder
        except AssertionError:
            stack.pop_all()
            print(f"see {folder}", file=sys.stderr)
            raise


def tell(result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=2)
    Path(os.environ.get("RESULT", "torture.json")).write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()
