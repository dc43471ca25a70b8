"""Rows a second into MLflow's stores, and megabytes a second through DVC's hash.

`python -m benchmarks.storing [URI...]`: SQLite in a scratch folder, and the stores or servers that are named, such as
`postgresql+psycopg://mlflow:PASSWORD@localhost/mlflow` or `http://localhost:5000`: one that may be written to. Rows
arrive as ours do: six values of an epoch in a call, and up to 1,000 in a call. Seconds are of the wall clock, and of
the client's CPU, which are what a machine at rest takes where the store is SQLite; the hash's are of the CPU.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

EPOCH, BATCH = 6, 1000  # values in a call
SECONDS = 10.0  # of writing, at least
HASHED = 512_000_000  # bytes


def rows(uri: str, values: int) -> tuple[float, float]:
    """Rows a second, and a CPU second, in calls of so many values, each call a step of one run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    name = "benchmarks.storing"
    known = client.get_experiment_by_name(name)
    run = client.create_run(known.experiment_id if known else client.create_experiment(name)).info.run_id

    def call(step: int) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run, [Metric(f"value_{index}", 0.5, now, step) for index in range(values)])

    call(0)
    step, started, before = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - started) < SECONDS:
        step += 1
        call(step)
    worked = time.process_time() - before
    client.set_terminated(run)
    return step * values / spent, step * values / worked


def hashing(folder: Path) -> float:
    """Bytes a CPU second of DVC's hash over a file that has just been written."""
    from dvc_data.hashfile.hash import file_md5
    from dvc_objects.fs.local import LocalFileSystem

    path = folder / "pixels"
    path.write_bytes(os.urandom(HASHED // 8) * 8)
    before = time.process_time()
    file_md5(str(path), LocalFileSystem())
    found = HASHED / (time.process_time() - before)
    path.unlink()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        print(f"hash: {hashing(Path(name)) / 1e6:.0f} MB a CPU second", flush=True)
        for uri in (f"sqlite:///{name}/mlflow.db", *sys.argv[1:]):
            for values in (EPOCH, BATCH):
                wall, worked = rows(uri, values)
                says = f"{wall:,.0f} rows a second, {worked:,.0f} a CPU second of the client"
                print(f"{uri.partition(':')[0]}, {values} rows a call: {says}", flush=True)


if __name__ == "__main__":
    main()
