"""Prepare what all trainings share, submit the jobs, watch and retry them, and have DVC finish the study.

Everything of a launch lies in `.dvc/tmp/versus/<study>` of the user's checkout: state.json, which --status reads, and
a folder for each job with its log.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import checkout, original, study
from pipeline.launch import copies, executor, plan
from pipeline.launch.job import LOG, RESULT, STARTED
from pipeline.params.faults import slurm_faults
from pipeline.params.read import load_params

LAUNCHER = "pid"  # the launcher's, and its host
PHASE = "phase"  # what is being done where jobs do not tell; stays where that failed


@dataclasses.dataclass
class Job:
    name: str  # cnn-0, with the experiment's name before it where there is a grid
    folder: str
    state: str = "queued"  # queued, running, done, failed, stopped
    attempts: int = 1
    seconds: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One point of a grid: a name, `-S` overrides, and the folder in which its shared stages run."""

    name: str
    overrides: list[str]
    study: Path


def launch(
    on: str,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    retries: int | None = None,
    resources: Mapping[str, str] | None = None,
    through_remote: bool = False,
    finish: bool = True,
) -> None:
    """Train what DVC would train, `on` an executor; raises StageError if any job failed, naming the logs."""
    folder, home, given = place(), root(), load_params()
    asked = given.launch
    slurm = {**asked.slurm, **(resources or {})}
    if faults := slurm_faults(slurm):
        raise StageError("\n".join(f"launch: {fault}" for fault in faults))
    if not Path("dvc.yaml").exists():
        raise StageError("launch: dvc.yaml: not found; run from a study's folder, where dvc.yaml and params.yaml lie")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "name": f"versus-{study()}",
        "workers": workers or asked.workers,
        "slurm": slurm,
        "devices": max(given.model_train(name).devices for name in given.models),
    }
    ref = reference(study())
    with _alone(folder), _ends_by_signals():
        executed = executor.named(on, folder / "submitit", settings)
        _end_leftovers(folder, settings)
        write(folder, on, [])
        try:
            jobs, experiments = _prepare(folder, home, ref, plan.variants(overrides), through_remote)
            (folder / PHASE).unlink()
            if jobs:
                _watch(folder, on, executed, jobs, 1 + (asked.retries if retries is None else retries))
        finally:
            copies.forget(home, ref)
        failed = [job for job in jobs if job.state == "failed"]
        if failed:
            lines = [f"{job.name}: {job.reason or 'died'}; its log: {job.folder}/{LOG}" for job in failed]
            raise StageError("\n".join([f"launch: {len(failed)} of {len(jobs)} jobs failed", *lines]))
        _phase(folder, "finishing the study with DVC")
        for experiment in experiments:
            _finish(experiment, through_remote, finish)
        (folder / PHASE).unlink()
        for experiment in experiments:  # logs stay until the next launch
            shutil.rmtree(folder / experiment.name / "clone", ignore_errors=True)


def reference(name: str) -> str:
    """The git reference of a study's launch: its name may have spaces, which git refuses there."""
    return f"refs/versus/{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def place() -> Path:
    return root() / ".dvc/tmp/versus" / study()


def root() -> Path:
    here = checkout()
    if here is None or not (here / ".git").exists():
        raise StageError("launch: no git checkout here; jobs run in clones of one: git init, git add, git commit")
    return original(here)


def _phase(folder: Path, doing: str) -> None:
    """Say what is being done, here and to --status."""
    (folder / PHASE).write_text(doing, encoding="utf-8")
    print(f"launch: {doing}", flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StageError(
            "launch: this study is being launched already; `versus launch --status` shows it, --stop ends it"
        ) from None
    try:
        (folder / LAUNCHER).write_text(f"{os.getpid()} {socket.gethostname()}")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _ends_by_signals() -> Iterator[None]:
    """SIGTERM and a terminal that goes away end a launch as Ctrl-C does: jobs are ended first."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    chosen = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_leftovers(folder: Path, settings: Mapping[str, Any]) -> None:
    """End what a launcher that was killed left running: its trainings go on from their last epoch."""
    last = read(folder)
    left = [Path(job.folder) for job in last["jobs"] if job.state in ("queued", "running")]
    if left:
        _phase(folder, "ending what a launcher that was killed left running")
        executor.named(last["on"], folder / "submitit", {**settings, "workers": None}).cancel(left)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _prepare(
    folder: Path, home: Path, ref: str, variants: Sequence[list[str]], through_remote: bool
) -> tuple[list[Job], list[Experiment]]:
    """Run the shared stages of each experiment here, and write down the jobs that remain, longest first."""
    from dvc.repo.experiments.utils import gen_random_name

    inside = Path.cwd().relative_to(home)
    _phase(folder, f"preparing {study()}: noting the checkout's files")
    if not copies.git(home, "rev-list", "--max-count=1", "--all"):
        raise StageError("launch: nothing is committed here yet; jobs run in clones of a commit: git add, git commit")
    head = copies.git(home, "rev-parse", "HEAD").strip()
    commit = copies.snapshot(home, ref, folder / "index")
    seconds = plan.expected(Path.cwd())
    found: list[tuple[Experiment, plan.Group, dict[str, Any]]] = []
    experiments = []
    for overrides in variants:
        name = gen_random_name() if overrides else "study"
        if overrides:
            copies.clone(home, head, commit, _made(folder / name) / "clone")
            workspace = folder / name / "clone" / inside
        else:
            workspace = _made(folder / name) and Path.cwd()
        experiment = Experiment(name, overrides, workspace)
        experiments.append(experiment)
        with plan.opened(Path.cwd()) as repo:
            shared = _shared(repo, through_remote)
        if overrides:
            copies.configure(workspace, Path.cwd(), shared, folder / name / "site")
            plan.override(workspace, overrides)
        with plan.opened(workspace) as repo:
            stages = plan.plan(repo)
        environment = {"VERSUS_HOME": str(home)} | ({"DVC_EXP_NAME": name} if overrides else {})
        if stages.shared:
            _phase(folder, f"preparing {study()}: running what all trainings share ({', '.join(stages.shared)})")
            dvc(workspace, "repro", *stages.shared, **environment)
        _phase(folder, f"preparing {study()}: asking DVC what is to be trained")
        with plan.opened(workspace) as repo:
            if through_remote:
                plan.pull(repo)
            missing = plan.to_run(repo, stages.groups)
        needed = sorted({path for group in missing for path in group.needs})
        if through_remote and needed:
            dvc(workspace, "push", *needed)
        for file in ("params.yaml", "dvc.lock"):
            shutil.copyfile(workspace / file, folder / name / file)
        about = {
            "home": str(home),
            "study": str(inside),
            "head": head,
            "commit": commit,
            "dvc": shared,
            "through_remote": through_remote,
            "environment": {"DVC_EXP_NAME": name} if overrides else {},
        }
        found += [(experiment, group, about) for group in missing]
    order = plan.longest_first([group for _, group, _ in found], seconds)
    jobs = []
    for experiment, group, about in sorted(found, key=lambda entry: order.index(entry[1])):
        path = _made(folder / experiment.name / group.key)
        write_json(path / "job.json", {**about, "targets": group.targets, "needs": group.needs})
        prefix = f"{experiment.name} " * bool(experiment.overrides)
        jobs.append(Job(f"{prefix}{group.key}", str(path)))
    return jobs, experiments


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shared(repo: Any, through_remote: bool) -> dict[str, dict[str, Any]]:
    """The settings by which a clone's DVC shares what it makes: the checkout's cache, or its default remote."""
    if not through_remote:
        return {"cache": {"dir": str(Path(repo.cache.local_cache_dir).resolve())}}
    name = repo.config["core"].get("remote")
    if not name:
        raise StageError("launch: --through-remote needs a default remote; dvc remote add --default NAME URL")
    url = repo.config["remote"][name]["url"]
    return {f'remote "{name}"': {"url": url if "://" in str(url) else str(Path(url).resolve())}}


def dvc(folder: Path, *command: str, **environment: str) -> None:
    if not git.dvc(folder, *command, **environment):
        raise StageError(f"launch: dvc {command[0]} failed; what it said stands above")


def _watch(folder: Path, on: str, executed: executor.Executor, jobs: Sequence[Job], attempts: int) -> None:
    """Until every job is done or has failed; on Ctrl-C end them all."""
    delay = 0.2
    try:
        write(folder, on, jobs)  # a launcher killed while it submits leaves their names
        executed.submit([Path(job.folder) for job in jobs])
        print(f"launch: {len(jobs)} jobs on {on}, longest first: {', '.join(job.name for job in jobs)}")
        print("launch: `versus launch --status` in another terminal shows them and their logs", flush=True)
        while open_jobs := [job for job in jobs if job.state in ("queued", "running")]:
            time.sleep(delay)
            before = [dataclasses.replace(job) for job in jobs]
            states = executed.states([Path(job.folder) for job in open_jobs])
            for job in open_jobs:
                _look(job, states[Path(job.folder)], attempts)
            again = [Path(new.folder) for new, old in zip(jobs, before, strict=True) if new.attempts > old.attempts]
            if again:
                executed.submit(again)
            for new, old in zip(jobs, before, strict=True):
                _tell(new, old, jobs)
            if before != list(jobs):
                write(folder, on, jobs)
                delay = 0.2
            delay = min(delay * 1.5, executed.poll)
    except BaseException as error:
        print("launch: ending the jobs", flush=True)
        executed.cancel([Path(job.folder) for job in jobs])
        for job in jobs:
            if job.state in ("queued", "running"):
                job.state = "stopped"
        write(folder, on, jobs)
        if isinstance(error, KeyboardInterrupt):
            print("launch: nothing is left running; `versus launch` goes on from here", flush=True)
        raise


def _look(job: Job, state: executor.State, attempts: int) -> None:
    """Take note of what became of a job; one that died is queued again while it has attempts left."""
    folder = Path(job.folder)
    if state != "gone":
        job.state = state
        return
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        (folder / RESULT).unlink()
    except FileNotFoundError:
        seconds = time.time() - (_started(folder) or time.time())
        result = {"outcome": "died", "reason": "ended without a word", "seconds": seconds}
    job.reason, job.seconds = result["reason"], result["seconds"]
    if result["outcome"] == "done":
        job.state = "done"
    elif result["outcome"] == "fault" or job.attempts >= attempts:
        job.state = "failed"
    else:
        job.state = "queued"
        job.attempts += 1
        (folder / STARTED).unlink(missing_ok=True)


def _started(folder: Path) -> float | None:
    try:
        return json.loads((folder / STARTED).read_text(encoding="utf-8"))["at"]
    except (OSError, ValueError):
        return None


def _tell(new: Job, old: Job, jobs: Sequence[Job]) -> None:
    done = sum(job.state == "done" for job in jobs)
    if new.attempts > old.attempts:
        print(f"launch: {new.name} died ({new.reason}); attempt {new.attempts}", flush=True)
    elif new.state != old.state:
        took = f" after {new.seconds:.0f} s" if new.state in ("done", "failed") else ""
        print(f"launch: {new.name} {new.state}{took} ({done} of {len(jobs)} done)", flush=True)


def _finish(experiment: Experiment, through_remote: bool, finish: bool) -> None:
    """Have DVC take what the jobs made from its run-cache, and run what is left: the report."""
    pull = ["--pull"] * through_remote
    command = ["repro", *pull]
    if experiment.overrides:
        settings = [argument for each in experiment.overrides for argument in ("-S", each)]
        command = ["exp", "run", "--temp", *pull, "--name", experiment.name, *settings]
    if finish:
        dvc(Path.cwd(), *command)
    else:
        print(f"launch: nothing is left to train; finish with: dvc {' '.join(command)}")


def write(folder: Path, on: str, jobs: Sequence[Job]) -> None:
    with written_whole(folder / "state.json") as partial:
        write_json(partial, {"on": on, "jobs": [dataclasses.asdict(job) for job in jobs]})


def read(folder: Path) -> dict[str, Any]:
    """What is known of the last launch: `on` and `jobs`."""
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return {"on": content["on"], "jobs": [Job(**job) for job in content["jobs"]]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {"on": "", "jobs": []}


def running(folder: Path) -> bool:
    lock = FileLock(folder / "lock")
    if not folder.exists():
        return False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def status() -> None:
    """Print the jobs of the last launch and where their logs are, and what it does where jobs do not tell."""
    folder = place()
    alive, last = running(folder), read(folder)
    doing = _doing(folder)
    if last["jobs"]:
        _show(last, alive)
    if doing:
        print(f"launch: {doing}" if alive else f"launch: it ended while {doing}; `versus launch` goes on from there")
    elif not last["jobs"]:
        known = "there was nothing to train" if last["on"] else "nothing was launched here"
        print(f"launch: {'starting' if alive else known}")


def _doing(folder: Path) -> str:
    """What the launcher wrote last of what it does; empty while jobs tell, and after it is done."""
    try:
        return (folder / PHASE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _show(last: Mapping[str, Any], alive: bool) -> None:
    """Print a line for each job, and the sum; `alive` says whether their launcher is."""
    counts: dict[str, int] = {}
    for job in last["jobs"]:
        if job.state in ("queued", "running") and not alive:
            job.state = "lost"
        elif job.state == "running" and (started := _started(Path(job.folder))):
            job.seconds = time.time() - started
        counts[job.state] = counts.get(job.state, 0) + 1
    width = max(len(job.name) for job in last["jobs"])
    for job in last["jobs"]:
        tries = f"attempt {job.attempts}" if job.attempts > 1 else ""
        words = f"{job.name:{width}}  {job.state:8} {job.seconds:6.0f} s  {tries:10} {job.reason[:60]}".rstrip()
        print(f"{words}  {job.folder}/{LOG}" if job.state != "queued" else words)
    says = ", ".join(f"{count} {state}" for state, count in counts.items())
    gone = (
        "" if alive or "lost" not in counts else "; its launcher was killed: `versus launch` ends what runs and goes on"
    )
    print(f"launch: on {last['on']}: {says}{gone}")


def stop() -> None:
    """End the launch of this study that runs in another terminal; returns when nothing of it runs."""
    folder = place()
    if not running(folder):
        raise StageError("launch: no launch of this study is running")
    try:
        pid, host = (folder / LAUNCHER).read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        raise StageError("launch: the launch of this study is just starting; try again") from None
    if host != socket.gethostname():
        raise StageError(f"launch: the launch of this study runs on {host}; stop it there")
    try:
        os.kill(int(pid), signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise StageError(f"launch: the launch of this study is another user's, process {pid}; ask them") from None
    while running(folder):
        time.sleep(0.2)
    print("launch: stopped")
