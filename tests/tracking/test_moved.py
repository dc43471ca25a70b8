"""A checkout that was moved or copied works where it is now, and nothing of it goes on in the old place."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import pytest

from pipeline.tracking import runs, store
from tests import trees


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout whose name has a blank, with two studies that have logged a file each; nobody stands in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(store, "GIVEN", "")
    folder = tmp_path / "old place"
    for study in (folder, folder / "studies/cats & dogs"):
        trees.study(study, {})
        monkeypatch.chdir(study)
        (folder / ".git").mkdir(exist_ok=True)
        log("before.txt")
    monkeypatch.chdir(tmp_path)
    yield folder
    mlflow.set_tracking_uri(None)


def log(name: str) -> None:
    with runs.report_run() as run:
        run.artifact(trees.put(Path(name), name.encode()))


def contents(home: Path) -> dict[str, set[str]]:
    """The files that each study's runs have, where the store says that they are."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    found: dict[str, set[str]] = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            for path in Path(url2pathname(urlparse(run.info.artifact_uri).path)).glob("*.txt"):
                assert path.is_relative_to(home)
                found.setdefault(experiment.name, set()).add(path.read_text())
    return found


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_runs_are_logged_beside_the_store_where_it_is_now(
    checkout: Path,
    how: Callable[[Path, Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = checkout.parent / "new place"
    how(checkout, here)
    before = sorted(checkout.rglob("*"))
    capsys.readouterr()
    monkeypatch.chdir(here / "studies/cats & dogs")
    log("after.txt")
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"versus: this checkout was at {checkout}; its MLflow runs are in {here}/mlartifacts now"
    log("later.txt")
    assert capsys.readouterr().out == "", "it is said once"
    assert contents(here) == {"digits": {"before.txt"}, "cats & dogs": {"before.txt", "after.txt", "later.txt"}}
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize(
    ("first", "anew"),
    [
        ("#!{here}/.venv/bin/python3", False),
        ("#!/nowhere/.venv/bin/python3.11", True),
        (f"#!{sys.prefix}/bin/python3", True),  # of a checkout that was copied
        ("#!/bin/sh", False),  # as pip writes it where the path has blanks
    ],
)
def test_make_makes_an_environment_anew_whose_scripts_lead_elsewhere(tmp_path: Path, first: str, anew: bool) -> None:
    shutil.copy(trees.ROOT / "Makefile", tmp_path)
    for name in ("environment.py", "pyproject.toml", "constraints.txt", ".venv/bin/pip", ".venv/ready"):
        trees.put(tmp_path / name, f"{first.format(here=tmp_path)}\n".encode())
    (tmp_path / ".venv/bin/pip").chmod(0o755)
    said = subprocess.run(["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ("venv --clear" in said) == anew
