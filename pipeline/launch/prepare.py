"""What is done before jobs start: the shared stages of each experiment are run here, the jobs that remain noted."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.files import write_json
from pipeline.base.places import study
from pipeline.launch import copies, plan
from pipeline.launch.state import Job, Ledger

SharedBy = dict[str, dict[str, Any]]  # settings of DVC


@dataclass(frozen=True)
class Experiment:
    """One point of a grid, or the study as it stands: what of it is to be trained."""

    name: str
    overrides: list[str]  # as `-S` takes them
    environment: dict[str, str]  # of its stages
    shared_by: SharedBy  # the settings by which a clone's DVC shares what it makes
    workspace: Path  # where its shared stages run: the study, or a clone of it
    waves: list[plan.Wave]


class Preparation:
    """The checkout's files as they are, kept as the commit `ref` while the launch runs, and what is made of them."""

    def __init__(self, ledger: Ledger, home: Path, ref: str, through_remote: bool) -> None:
        self.ledger, self.home, self.through_remote = ledger, home, through_remote
        self.inside = Path.cwd().relative_to(home)
        self._begin("noting the checkout's files")
        if not copies.git(home, "rev-list", "--max-count=1", "--all"):
            raise StageError(
                "launch: nothing is committed here yet; jobs run in clones of a commit: git add, git commit"
            )
        self.head = copies.git(home, "rev-parse", "HEAD").strip()
        self.commit = copies.snapshot(home, ref, ledger.folder / "index")

    def experiment(self, overrides: list[str]) -> Experiment:
        """An experiment's place, a clone of the checkout where it overrides settings, and what is to run there."""
        from dvc.repo.experiments.utils import gen_random_name

        name = gen_random_name() if overrides else "study"
        folder = self.ledger.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with plan.opened(Path.cwd()) as repo:
            shared_by = _shared_by(repo, self.through_remote)
        workspace = self._clone(folder, overrides, shared_by) if overrides else Path.cwd()
        with plan.opened(workspace) as repo:
            waves = plan.plan(repo)
        known = {"DVC_EXP_NAME": name, "DVC_EXP_BASELINE_REV": self.head} if overrides else {}
        return Experiment(name, overrides, known, shared_by, workspace, waves)

    def jobs(self, experiments: Sequence[Experiment], wave: int) -> list[Job]:
        """Run what all of a wave share, and write down the jobs that are to be run, longest first."""
        pairs = [(experiment, group) for experiment in experiments for group in self._to_run(experiment, wave)]
        order = plan.longest_first([group for _, group in pairs], plan.expected(Path.cwd()))
        return [self._job(*pair) for pair in sorted(pairs, key=lambda pair: order.index(pair[1]))]

    def _to_run(self, experiment: Experiment, number: int) -> list[plan.Group]:
        """The groups of an experiment's wave that DVC would run, once what they share has run."""
        if number >= len(experiment.waves):
            return []
        wave = experiment.waves[number]
        self._run_shared(experiment, wave.shared, pull=number > 0)
        missing = self._missing(experiment.workspace, wave.groups)
        for file in ("params.yaml", "dvc.lock"):
            shutil.copyfile(experiment.workspace / file, self.ledger.folder / experiment.name / file)
        return missing

    def _begin(self, doing: str) -> None:
        self.ledger.begin(f"preparing {study()}: {doing}")

    def _clone(self, folder: Path, overrides: Sequence[str], shared_by: SharedBy) -> Path:
        """The study in a clone of the checkout, with the settings of an experiment."""
        copies.clone(self.home, self.head, self.commit, folder / "clone")
        workspace = folder / "clone" / self.inside
        copies.configure(workspace, Path.cwd(), shared_by, folder / "site")
        plan.override(workspace, overrides)
        return workspace

    def _run_shared(self, experiment: Experiment, stages: Sequence[str], pull: bool) -> None:
        """Run the stages that all of a wave share; those after the first may read what jobs made elsewhere."""
        if not stages:
            return
        self._begin(f"running what all trainings share ({', '.join(stages)})")
        through = pull and self.through_remote
        if through:
            with plan.opened(experiment.workspace) as repo:
                plan.pull(repo)
        command = ["repro", *["--pull"] * through, *stages]
        dvc(experiment.workspace, *command, VERSUS_HOME=str(self.home), **experiment.environment)

    def _missing(self, workspace: Path, groups: Sequence[plan.Group]) -> list[plan.Group]:
        """The groups that DVC would run; through a remote, what they read is brought there."""
        self._begin("asking DVC what is to be trained")
        with plan.opened(workspace) as repo:
            if self.through_remote:
                plan.pull(repo)
            missing = plan.to_run(repo, groups)
        needed = sorted({path for group in missing for path in group.needs})
        if self.through_remote and needed:
            dvc(workspace, "push", *needed)
        return missing

    def _job(self, experiment: Experiment, group: plan.Group) -> Job:
        folder = self.ledger.folder / experiment.name / group.key
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "home": str(self.home),
            "study": str(self.inside),
            "head": self.head,
            "commit": self.commit,
            "dvc": experiment.shared_by,
            "through_remote": self.through_remote,
            "environment": experiment.environment,
            "targets": group.targets,
            "needs": group.needs,
        }
        write_json(folder / "job.json", content)
        return Job(f"{experiment.name} {group.key}" if experiment.overrides else group.key, str(folder))


def _shared_by(repo: Any, through_remote: bool) -> SharedBy:
    """The checkout's cache, or its default remote, as settings of a clone's DVC."""
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
