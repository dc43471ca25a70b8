"""Jobs on a Slurm cluster: one array through submitit, with the resources that params.yaml and --slurm name.

What came of a job is in its folder, on a file system that all nodes see; squeue only says whether it waits or runs, so
no accounting database is needed.
"""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.launch.executor import State, command, with_source

ID = "slurm"  # the file in a job's folder that names it to Slurm: array and index
QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD"}


def open(folder: Path, settings: Mapping[str, Any]) -> "Slurm":  # noqa: A001
    try:
        import submitit
    except ModuleNotFoundError:
        raise StageError("launch: --on slurm needs submitit; pip install 'versus[slurm]'") from None
    if shutil.which("sbatch") is None:
        raise StageError("launch: --on slurm needs sbatch, which this machine lacks; launch on a login node")
    executor = submitit.SlurmExecutor(folder)
    options = {key.replace("_", "-"): value for key, value in settings["slurm"].items()}
    executor.update_parameters(
        job_name=re.sub(r"[^\w.-]+", "-", settings["name"]),
        time=None,  # the partition's own limit, unless an option says more
        use_srun=False,
        stderr_to_stdout=True,
        setup=[f"export PYTHONPATH={shlex.quote(with_source())}"],
        array_parallelism=settings["workers"] or 1000,
        additional_parameters=options,
    )
    return Slurm(executor)


class Slurm:
    poll = 10.0

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit(self, jobs: Sequence[Path]) -> None:
        import submitit

        try:
            with self._executor.batch():
                sent = [self._executor.submit(submitit.helpers.CommandFunction(command(job))) for job in jobs]
        except submitit.core.utils.FailedJobError as error:
            raise StageError(f"launch: Slurm refuses the jobs: {' '.join(str(error).split())[-300:]}") from None
        for job, known in zip(jobs, sent, strict=True):
            (job / ID).write_text(known.job_id)

    def states(self, jobs: Sequence[Path]) -> dict[Path, State]:
        ids = _ids(jobs)
        listed = _squeue({known.partition("_")[0] for known in ids.values()})
        return {
            job: "gone" if ids.get(job) not in listed else "queued" if listed[ids[job]] in QUEUED else "running"
            for job in jobs
        }

    def cancel(self, jobs: Sequence[Path]) -> None:
        ids = _ids(jobs)
        if not ids:
            return
        subprocess.run(["scancel", "--quiet", *ids.values()], check=False)
        due = time.monotonic() + 120
        while any(state != "gone" for state in self.states(list(ids)).values()):
            if time.monotonic() > due:
                raise StageError(f"launch: Slurm has not ended {', '.join(ids.values())}; see squeue")
            time.sleep(1)


def _ids(jobs: Sequence[Path]) -> dict[Path, str]:
    return {job: (job / ID).read_text() for job in jobs if (job / ID).exists()}


def _squeue(arrays: set[str]) -> dict[str, str]:
    """State of each of the user's jobs that waits or runs, by array and index; retries while Slurm does not answer."""
    if not arrays:
        return {}
    for _ in range(10):
        done = subprocess.run(
            ["squeue", "--me", "--array", "--noheader", "--format=%i %F %K %T"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            rows = [line.split() for line in done.stdout.splitlines()]
            return {job: state for job, array, _, state in rows if array in arrays}
        time.sleep(6)
    raise StageError(f"launch: squeue does not answer: {' '.join(done.stderr.split())[:200]}")
