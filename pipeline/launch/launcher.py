"""Prepare what all trainings share, submit the jobs, watch and retry them, and have DVC finish the study."""

import contextlib
import dataclasses
import hashlib
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError, shown
from pipeline.base.places import study
from pipeline.launch import copies, executor, plan, warm
from pipeline.launch.job import LOG
from pipeline.launch.prepare import Experiment, Preparation, dvc
from pipeline.launch.signals import handled
from pipeline.launch.state import Job, Ledger, place, root
from pipeline.launch.watch import Watch
from pipeline.params.faults import slurm_faults
from pipeline.params.read import load_params
from pipeline.params.study import Params

PAGE = Path("reports/report.html")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of a launch; what is None is as `launch` of params.yaml says."""

    on: str  # the executor's name
    overrides: Sequence[str] = ()  # a grid, as `dvc exp run --queue -S` takes it
    workers: int | None = None
    retries: int | None = None
    resources: Mapping[str, str] = dataclasses.field(default_factory=dict)  # options of sbatch, beside params.yaml's
    through_remote: bool = False
    finish: bool = True  # run what is left when all is trained: the report


def launch(asked: Asked) -> None:
    """Train what DVC would train; raises StageError if any job failed, naming the logs."""
    if not Path("dvc.yaml").exists():
        raise StageError("launch: dvc.yaml: not found; run from a study's folder, where dvc.yaml and params.yaml lie")
    ledger, home, given = Ledger(place()), root(), load_params()
    settings = _settings(asked, given)
    if asked.overrides:
        _refuse_unknown()
    ledger.folder.mkdir(parents=True, exist_ok=True)
    retries = given.launch.retries if asked.retries is None else asked.retries
    ref = reference(study())
    with ledger.held(), _ends_by_signals(), warm.kept() if asked.on == "local" else contextlib.nullcontext():
        executed = executor.named(asked.on, ledger.folder / "submitit", settings)
        _end_leftovers(ledger, settings)
        ledger.write(asked.on, [])
        try:
            preparation = Preparation(ledger, home, ref, asked.through_remote)
            experiments = [preparation.experiment(overrides) for overrides in plan.variants(asked.overrides)]
            for wave in range(max(len(experiment.waves) for experiment in experiments)):
                jobs = preparation.jobs(experiments, wave)
                ledger.end()
                if jobs:
                    Watch(ledger, asked.on, executed, jobs, 1 + retries).until_done()
                _refuse_failed(jobs)
                if jobs and not asked.through_remote:
                    _take(ledger, experiments, wave, asked.finish)
        finally:
            copies.forget(home, ref)
        ledger.begin("finishing the study with DVC")
        for experiment in experiments:
            _finish(experiment, asked)
        ledger.end()
        if asked.finish and not asked.overrides:
            print(f"launch: {study()} is done: {PAGE}")
        for experiment in experiments:  # logs stay until the next launch
            shutil.rmtree(ledger.folder / experiment.name / "clone", ignore_errors=True)


def _refuse_unknown() -> None:
    """Raise StageError where git lacks a file that makes the study: DVC makes experiments of what git knows."""
    names = copies.untracked(Path.cwd(), "dvc.yaml", "params.yaml", "pipeline", ":/pipeline")
    if names:
        more = f" and {len(names) - 1} more" * (len(names) > 1)
        raise StageError(
            f"launch: git does not know {shown(names[0])}{more}, and DVC makes experiments of what it knows; git add,"
            " git commit, then launch"
        )


def _settings(asked: Asked, given: Params) -> dict[str, Any]:
    """What an executor is opened with."""
    slurm = {**given.launch.slurm, **asked.resources}
    if faults := list(slurm_faults(slurm)):
        raise StageError("\n".join(f"launch: {fault}" for fault in faults))
    return {
        "name": f"versus-{study()}",
        "workers": asked.workers or given.launch.workers,
        "slurm": slurm,
        "devices": max(given.model_train(name).devices for name in given.models),
    }


def reference(name: str) -> str:
    """The git reference of a study's launch: its name may have spaces, which git refuses there."""
    return f"refs/versus/{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _ends_by_signals() -> Iterator[None]:
    """SIGTERM and a terminal that goes away end a launch as Ctrl-C does: jobs are ended first."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    chosen = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    with handled(chosen, end):
        yield


def _end_leftovers(ledger: Ledger, settings: Mapping[str, Any]) -> None:
    """End what a launcher that was killed left running: its trainings go on from their last epoch.

    Raises StageError where it may still run on another host.
    """
    last = ledger.read()
    left = [job for job in last.jobs if job.is_open]
    hosts = {job.host() for job in left} - {"", socket.gethostname()}
    if hosts and last.on == "local":
        raise StageError(
            f"launch: what was launched on {', '.join(sorted(hosts))} may still run there; launch there, or, where that"
            f" machine is no more, remove {ledger.folder}"
        )
    if left:
        ledger.begin("ending what a launcher that was killed left running")
        executor.named(last.on, ledger.folder / "submitit", {**settings, "workers": None}).cancel(
            [job.path for job in left]
        )
    for path in ledger.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _refuse_failed(jobs: Sequence[Job]) -> None:
    failed = [job for job in jobs if job.state == "failed"]
    if failed:
        lines = [f"{job.name}: {job.reason or 'died'}; its log: {job.folder}/{LOG}" for job in failed]
        raise StageError("\n".join([f"launch: {len(failed)} of {len(jobs)} jobs failed", *lines]))


def _take(ledger: Ledger, experiments: Sequence[Experiment], number: int, finish: bool) -> None:
    """Record at once what the jobs of a wave made, where DVC is to go on from it; a grid's trainings end elsewhere."""
    ledger.begin("recording what was trained")
    for experiment in experiments:
        last = number == len(experiment.waves) - 1
        if number < len(experiment.waves) and (not last or (finish and not experiment.overrides)):
            with plan.opened(experiment.workspace) as repo:
                plan.take(repo, [name for group in experiment.waves[number].groups for name in group.targets])
    ledger.end()


def _finish(experiment: Experiment, asked: Asked) -> None:
    """Have DVC take what the jobs made from its run-cache, and run what is left: the report."""
    pull = ["--pull"] * asked.through_remote
    command = ["repro", *pull]
    if experiment.overrides:
        settings = [argument for each in experiment.overrides for argument in ("-S", each)]
        command = ["exp", "run", "--temp", *pull, "--name", experiment.name, *settings]
    if asked.finish:
        dvc(Path.cwd(), *command)
    else:
        print(f"launch: nothing is left to train; finish with: dvc {' '.join(command)}")
