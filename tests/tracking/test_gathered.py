"""Git and MLflow know of evaluations that were made before looks at test images were recorded."""

import json
import os
import shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from pipeline.base.errors import PassingError
from pipeline.commands import looks as command
from pipeline.records import looks
from pipeline.tracking import store
from pipeline.tracking.gathered import from_git, from_mlflow
from tests import fake_study, repo


def weights(folder: Path, name: str, digest: str, lr: float = 0.001) -> None:
    path = folder / f"reports/evaluations/{name}.json"
    content = json.loads(path.read_text())
    content["run"]["weights_sha256"] = digest * 64
    content["config"]["train"]["lr"] = lr
    path.write_text(json.dumps(content))


def test_evaluations_of_every_branch_and_experiment_are_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_study.write(tmp_path, models=("cnn", "vit"), replicates=(0,), epochs=2, images=40)
    shutil.rmtree(tmp_path / "reports/predictions")
    repo.call(tmp_path, "git", "init", "--quiet")
    weights(tmp_path, "cnn-0", "a")  # vit-0 is as earlier versions left it: what its weights were is not known
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-01T02:00:00+02:00")
    repo.commit(tmp_path)
    weights(tmp_path, "cnn-0", "b", lr=0.1)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-02T00:00:00+00:00")
    repo.commit(tmp_path)
    repo.call(tmp_path, "git", "update-ref", "refs/exps/12/3456/tried", "HEAD")
    repo.call(tmp_path, "git", "reset", "--quiet", "--hard", "HEAD~1")
    monkeypatch.chdir(tmp_path)
    found = from_git()
    assert [(look.weights[0], look.model, look.when, look.commit) for look in found] == [
        ("a", "cnn", "2026-01-01T00:00:00+00:00", "0" * 40),
        ("b", "cnn", "2026-01-02T00:00:00+00:00", "0" * 40),
    ]
    assert {look.images for look in found} == {"a7" * 8}
    command.run(Namespace(gather=False))
    assert "the record has no look at these test images; --gather asks git and MLflow" in capsys.readouterr().out
    command.run(Namespace(gather=True))
    assert "looks: scored 2 times, by 2 settings, in digits" in capsys.readouterr().out
    command.run(Namespace(gather=True))
    assert "looks: 0 that git or MLflow knew of" in capsys.readouterr().out
    assert not (tmp_path / "mlflow.db").exists(), "no store is made for a question"
    assert looks.record() == Path(os.path.realpath(tmp_path)) / ".versus/looks.jsonl"


def test_an_evaluation_that_was_committed_before_the_images_is_a_look_as_of_the_commit_that_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_study.write(tmp_path, models=("cnn",), replicates=(0,), epochs=2, images=40)
    weights(tmp_path, "cnn-0", "a")
    data = (tmp_path / "reports/data.json").rename(tmp_path / "data.json")
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    data.rename(tmp_path / "reports/data.json")
    weights(tmp_path, "cnn-0", "a")
    (tmp_path / "reports/evaluations/.keep").touch()
    repo.commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [look.weights[0] for look in from_git()] == ["a"]


def test_an_evaluation_that_scored_every_epoch_has_that_look_too_from_git_and_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1), epochs=2, images=40)
    shutil.rmtree(tmp_path / "reports/predictions")
    for replicate in (0, 1):
        weights(tmp_path, f"cnn-{replicate}", str(replicate))
    path = tmp_path / "reports/evaluations/cnn-0.json"
    inflation = {"epochs": [], "chosen_on_test": {}, "gap": {"accuracy": 0.01}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inflation": inflation}))
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    for found in (from_git(), from_mlflow(Store(tmp_path / "reports/evaluations"), "0")[0]):
        assert sorted((look.weights[0], look.kind) for look in found) == [
            ("0", "epochs"),
            ("0", "evaluation"),
            ("1", "evaluation"),
        ]


class Store:
    """Two pages of runs, as MLflow's client gives them; the artifacts of the last are gone."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts

    def search_runs(self, _: list[str], query: str, page_token: str | None) -> Any:
        assert query == "tags.`versus.stage` = 'evaluate'"
        runs = {None: [run("cnn", 0)], "next": [run("cnn", 1), run("gone", 0)]}[page_token]
        return type("Page", (list,), {"token": None if page_token else "next"})(runs)

    def download_artifacts(self, _: str, name: str, folder: str) -> str:
        return str(shutil.copy(self.artifacts / name, folder))

    def list_artifacts(self, _: str) -> list[Any]:
        return []


class Gone(Store):
    """After cnn-0's evaluation the server is gone."""

    def download_artifacts(self, run: str, name: str, folder: str) -> str:
        if name == "cnn-0.json":
            return super().download_artifacts(run, name, folder)
        return mlflow.MlflowClient("http://127.0.0.1:9").download_artifacts(run, name, folder)

    def list_artifacts(self, run: str) -> list[Any]:
        return mlflow.MlflowClient("http://127.0.0.1:9").list_artifacts(run)


def run(model: str, replicate: int) -> Any:
    tag = [SimpleNamespace(key="mlflow.data.context", value="test"), SimpleNamespace(key="sha256", value="a7" * 32)]
    tags = {"versus.model": model, "versus.replicate": str(replicate), "versus.commit": "c", "dvc.experiment": "tried"}
    return SimpleNamespace(
        data=SimpleNamespace(tags=tags),
        info=SimpleNamespace(run_id="1", start_time=1_767_225_600_500),
        inputs=SimpleNamespace(dataset_inputs=[SimpleNamespace(tags=tag)]),
    )


def test_evaluations_in_mlflow_are_looks_at_the_time_of_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1), epochs=2, images=40)
    for replicate in (0, 1):
        weights(tmp_path, f"cnn-{replicate}", str(replicate))
    monkeypatch.chdir(tmp_path)
    found, silent = from_mlflow(Store(tmp_path / "reports/evaluations"), "0")
    assert silent == 1
    assert [(look.weights[0], look.when, look.images, look.commit, look.experiment) for look in found] == [
        ("0", "2026-01-01T00:00:00+00:00", "a7" * 8, "c", "tried"),
        ("1", "2026-01-01T00:00:00+00:00", "a7" * 8, "c", "tried"),
    ]


def test_a_run_whose_file_is_missing_is_passed_over_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1), epochs=2, images=40)
    for replicate in (0, 1):
        weights(tmp_path, f"cnn-{replicate}", str(replicate))
    repo.call(tmp_path, "git", "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "begun", lambda: True)
    monkeypatch.setattr(store, "connect", lambda: (Store(tmp_path / "reports/evaluations"), "0"))
    command.run(Namespace(gather=True))
    said = capsys.readouterr().out
    assert said.startswith(
        "looks: passed over 1 evaluation in MLflow: file missing, unreadable or of an earlier version\n"
    )
    assert "looks: 2 that git or MLflow knew of" in said


@pytest.mark.parametrize("midway", [False, True])
def test_a_store_that_is_away_ends_the_gathering_in_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, midway: bool
) -> None:
    fake_study.write(tmp_path, models=("cnn",), replicates=(0, 1), epochs=2, images=40)
    weights(tmp_path, "cnn-0", "a")
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "GIVEN", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if midway:
        monkeypatch.setattr(store, "connect", lambda: (Gone(tmp_path / "reports/evaluations"), "0"))
    with pytest.raises(
        PassingError, match=r"^the MLflow store http://127.0.0.1:9 does not answer .*; see that it is up"
    ):
        command.run(Namespace(gather=True))
    assert not looks.record().exists()
    mlflow.set_tracking_uri(None)
