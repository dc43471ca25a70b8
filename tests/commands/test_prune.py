"""What killed stages left is listed with its size, removed on request, and nothing else is."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pipeline.commands.prune import prune
from pipeline.tracking import runs
from pipeline.tracking import store as tracking_store
from pipeline.tracking.broken import broken_runs
from pipeline.trained import remains
from pipeline.trained.remains import DAY
from pipeline.training import resume
from tests import repo, trees
from tests.tracking.test_runs import statuses

OLD = time.time() - 30 * DAY

VALUES = {
    "model": "cnn",
    "replicate": 0,
    "network": {"family": "timm", "backbone": "resnet18"},
    "data": {"title": "Digits"},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / ".dvc").mkdir()
    trees.study(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def state(key: str, days: float, run: str = "") -> Path:
    """The state of a training, last written so many days ago."""
    with resume.opened(key) as kept:
        kept.note(training="cnn-0", study="digits", run=run)
        trees.put(kept.path, bytes(2_000_000))
    for path in (*kept.folder.iterdir(), kept.folder):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return kept.folder


def test_nothing_is_said_to_be_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune()
    assert capsys.readouterr().out == "prune: nothing that is older than 7 days\n"
    assert not (home / "mlflow.db").exists()


def test_old_states_are_listed_and_go_with_yes_and_new_ones_stay(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = state("a" * 64, days=30), state("b" * 64, days=1)
    prune()
    said = capsys.readouterr().out
    assert "2.00 MB    30.0 days  state of the training cnn-0 of digits" in said
    assert "1 of these, 2.00 MB; `versus prune --days 7 --yes` removes them" in said
    assert old.exists()
    prune(yes=True)
    assert "removed 1, 2.00 MB freed" in capsys.readouterr().out
    assert not old.exists()
    assert new.exists()


def test_a_state_that_a_process_has_open_stays(home: Path) -> None:
    folder = state("a" * 64, days=30)
    code = f"from pipeline.training import resume\nwith resume.opened('{'a' * 64}'):\n  print(flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(trees.ROOT)}
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=home, env=environment, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout is not None
        other.stdout.readline()
        prune(days=0, yes=True)
        assert folder.exists()
        other.communicate("\n")
    prune(days=0, yes=True)
    assert not folder.exists()


def test_a_state_that_is_opened_meanwhile_stays_with_its_run_and_is_not_counted(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), runs.training_run("cnn-0", "k", VALUES) as killed:
        raise KeyboardInterrupt
    folder, other = state("a" * 64, days=30, run=killed.id), state("b" * 64, days=30)
    litter = trees.put(home / "reports/.a.json.999999999.part", b"1234")
    monkeypatch.setattr(resume, "discard", lambda _: None)  # as it does where a process has the state open
    time.sleep(0.01)
    prune(days=0, yes=True)
    assert "removed 1, 4 B freed; 3 of a training that goes on stay" in capsys.readouterr().out
    assert folder.exists()
    assert other.exists()
    assert not litter.exists()
    assert statuses(home) == {"cnn-0": "KILLED"}


def test_half_written_files_of_dead_processes_go_and_those_of_living_ones_stay(home: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    litter = trees.put(home / f"studies/mine/reports/evaluations/.a.json.{gone.pid}.part", b"1234")
    living = trees.put(home / f"models/.cnn-0.{os.getpid()}.part/weights.safetensors", b"1234")
    prune(days=0, yes=True)
    assert not litter.exists()
    assert living.exists()


def test_runs_that_failed_go_and_those_that_finished_or_can_be_gone_on_with_stay(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with runs.report_run() as finished:
        finished.artifact(trees.put(home / "table.csv", b"1"))
    large = trees.put(home / "large.bin", bytes(3_000_000))
    with pytest.raises(ValueError, match="no digit"), runs.report_run() as failed:
        int("no digit" if failed.artifact(large) is None else 0)  # type: ignore[func-returns-value]
    with (
        pytest.raises(KeyboardInterrupt),
        runs.training_run("cnn-0", "k", VALUES) as kept,
    ):
        raise KeyboardInterrupt
    folder = state("k" * 64, days=0, run=kept.id)
    prune(days=0.001, yes=False)
    assert "nothing" in capsys.readouterr().out, "none is that old"
    broken = [one for one in broken_runs() if one.id == failed.id]
    assert [(one.study, one.status) for one in broken] == [("digits", "FAILED")]
    assert 3_000_000 <= broken[0].bytes < 3_050_000  # a patch of uncommitted changes may lie beside
    future = time.time() + DAY / 2
    for path in (folder, *folder.iterdir()):
        os.utime(path, (future, future))
    prune(days=0, yes=True)
    assert re.search(r"3\.0\d MB", capsys.readouterr().out)
    assert statuses(home) == {"report": "FINISHED", "cnn-0": "KILLED"}
    artifacts = {path.name for path in (home / "mlartifacts").rglob("*") if path.is_file()}
    assert artifacts - {"uncommitted.patch"} == {"table.csv"}


def test_of_a_store_that_others_use_only_what_ones_own_stages_left_here_is_listed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="mine"), runs.report_run():
        raise ValueError("mine")
    store = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = store.create_experiment("another project")
    names = ["report", "of others"]
    for tags in ({}, {"versus.host": "elsewhere"}):
        run = store.create_run(experiment, tags=tags, run_name=names[1])
        store.set_terminated(run.info.run_id, status="FAILED")
    assert sorted(one.name for one in broken_runs()) == sorted([*names, names[1]])
    monkeypatch.setattr(tracking_store, "GIVEN", f"sqlite:///{home / 'mlflow.db'}")
    assert [one.name for one in broken_runs()] == names[:1]


def test_an_entry_of_the_run_cache_that_dvc_was_killed_in_the_middle_of_goes_whatever_its_age(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = trees.put(home / "studies/mine/.dvc/cache/runs/ab/abcd/1234", b"cmd: x")
    half = home / "studies/mine/.dvc/cache/runs/ab/abce"
    half.mkdir()
    prune(yes=True)
    assert half.exists(), "it may be in the making"
    monkeypatch.setattr(remains, "MAKING", 0.0)
    prune(yes=True)
    assert "unfinished studies/mine/.dvc/cache/runs/ab/abce" in capsys.readouterr().out
    assert whole.exists()
    assert not half.exists()


def test_dvc_goes_on_after_an_entry_that_it_was_killed_in_the_middle_of(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".dvc").rmdir()
    repo.call(home, "git", "init", "--quiet")
    repo.call(home, "dvc", "init", "--quiet")
    (home / "dvc.yaml").write_text("stages:\n  a:\n    cmd: echo 1 > b\n    deps: [params.yaml]\n    outs: [b]\n")
    repo.call(home, "dvc", "repro")
    (entry,) = (path for path in home.glob(".dvc/cache/runs/*/*/*") if path.is_file())
    for path in (entry, home / "dvc.lock", home / "b"):
        path.unlink()
    assert "not 'NoneType'" in repo.call(home, "dvc", "repro", fails=True), "else DVC has mended it: prune need not"
    monkeypatch.setattr(remains, "MAKING", 0.0)
    prune(yes=True)
    assert "unfinished .dvc/cache/runs" in capsys.readouterr().out
    assert repo.ran(repo.call(home, "dvc", "repro")) == ["a"]
