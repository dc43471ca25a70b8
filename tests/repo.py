"""The working tree's code as a repository of its own, for tests that run the real DVC and the real MLflow; and what the
last commit has of results, whatever was run in the working tree since.
"""

import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from pipeline.launch import warm
from tests import trees

ROOT = Path(__file__).parents[1]
SMALL = {  # a study of seconds: the networks and the protocol of the default study, made small
    "dataset.image_size": 16,
    "replicates": [0],
    "train.epochs": 2,
    "train.warmup_epochs": 0,
    "models.cnn.args.channels": [8, 8, 16, 16],
    "models.vit.args": {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
    "models.hybrid.args.channels": [8, 8, 16, 16],
    "models.hybrid.dim": 24,
    "models.hybrid.depth": 2,
    "models.hybrid.heads": 2,
}


NEW = ("benchmarks", "docs", "pipeline", "tests")  # where a file that git does not know yet is somebody's work


@functools.cache
def committed() -> frozenset[str]:
    """The files of the last commit. Results are looked at there: a rerun replaces the working tree's."""
    return frozenset(_git("ls-tree", "-r", "--name-only", "HEAD").splitlines())


def export(folder: Path, *names: str) -> Path:
    """Files and folders as the last commit has them, in `folder`."""
    archive = subprocess.run(["git", "archive", "HEAD", "--", *names], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "--extract"], cwd=folder, input=archive.stdout, check=True)
    return folder


def studies() -> list[Path]:
    """The root and the studies that git knows; there may be others, of whoever works here."""
    found = _git("ls-files", "--", "dvc.yaml", "studies/*/dvc.yaml").splitlines()
    return [(ROOT / name).parent for name in sorted(found, key=lambda name: (name.count("/"), name))]


def copy(folder: Path) -> Path:
    """The code and settings of the working tree in `folder`, committed; no results, no data, nothing that ran."""
    keep_warm()
    new = _git("ls-files", "--others", "--exclude-standard", "--", *NEW)
    for name in (_git("ls-files") + new).splitlines():
        results = name.endswith("dvc.lock") or "reports" in Path(name).parts
        if os.path.lexists(ROOT / name) and not results:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    call(folder, "git", "init", "--quiet")
    commit(folder)
    return folder


@functools.cache
def keep_warm() -> None:
    """Let stages that tests start begin as those of a launch do: what they import takes longer than what they do.

    They have no PYTHONPATH, as `user` says, so that a process that has one would not be taken.
    """
    kept, path = contextlib.ExitStack(), os.environ.pop("PYTHONPATH", None)
    kept.enter_context(warm.kept())
    if path is not None:
        os.environ["PYTHONPATH"] = path
    atexit.register(kept.close)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> None:
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "A study")


def change(study: Path, settings: dict[str, Any]) -> None:
    """Set keys of a study's params.yaml: dotted name -> value."""
    yaml = YAML()
    path = study / "params.yaml"
    content = yaml.load(path.read_text())
    trees.put_settings(content, settings)
    with path.open("w") as file:
        yaml.dump(content, file)


def free_ports(count: int = 1) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def user() -> dict[str, str]:
    """The environment of somebody with a name in git, nothing of whose own is set for DVC and MLflow.

    DVC does not tell its makers of what is done: outside a study it would, by a second process after each command.
    """
    names = ("AUTHOR", "COMMITTER")
    identity = {f"GIT_{name}_{key}": value for name in names for key, value in (("NAME", "T"), ("EMAIL", "t@t"))}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"DVC_NO_ANALYTICS": "1", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2"}
    return {**inherited, **identity, **own, "PATH": path}


def call(folder: Path, *command: str, fails: bool = False, **environment: str) -> str:
    """Run a command in `folder` as a user would; its output, or an AssertionError that shows it.

    The output goes to a file: a pipe would be read until those end, too, that the command leaves behind, such as DVC's
    workers.
    """
    with tempfile.NamedTemporaryFile() as output:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**user(), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = Path(output.name).read_text(encoding="utf-8", errors="replace")
    assert (done.returncode != 0) == fails, f"{' '.join(command)} -> {done.returncode}\n{said}"
    return said


def make(*words: str, folder: Path = ROOT, fails: bool = False, **environment: str) -> str:
    """Run our Makefile in `folder`, with the environment that the tests have; its output."""
    given = ("make", "--no-print-directory", f"--file={ROOT / 'Makefile'}", "--old-file=.venv/ready")
    return call(folder, *given, *words, fails=fails, PYTHONPATH=str(ROOT), **environment)


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran, in order, without the one that looks at every time what DVC cannot see."""
    marker = "Running stage '"
    found = [line[len(marker) :].split("'")[0] for line in output.splitlines() if line.startswith(marker)]
    return [stage for stage in found if stage != "source"]


def runs(store: Any, query: str = "", study: str = "digits") -> list[Any]:
    """A study's runs in an MLflow store."""
    experiment = store.get_experiment_by_name(study)
    assert experiment is not None
    return list(store.search_runs([experiment.experiment_id], query))


def running(process: int) -> bool:
    """Whether it runs; one that has ended may not have been taken note of yet."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
