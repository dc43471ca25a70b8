"""A study whose settings are tuned, as its user runs it: the real DVC, the real MLflow store, `versus launch`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipeline.launch import plan
from tests import repo

TINY: dict[str, Any] = {
    "family": "tiny",
    "layers": ["conv 16, pool", "conv 16"],
    "train": {"lr": 1e-6},
}  # a rate that learns nothing
TUNED = {
    "dataset.image_size": 16,
    "replicates": [0],
    "train.epochs": 12,
    "train.warmup_epochs": 0,
    "train.device": "cpu",
    "models": {"tiny": TINY},
    "tune": {
        "trials": [0, 1],
        "models": {"tiny": {}},
        "finalists": [0],
        "short_epochs": 8,
        "seed": 3,
        "space": {"train.lr": {"log_uniform": [0.003, 0.05]}},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in the middle of its first trial, then launched."""
    folder = repo.copy(tmp_path_factory.mktemp("checkout"))
    repo.change(folder, TUNED)
    repo.commit(folder)
    killed(folder, "dvc", "repro", "trial@tiny-0")
    repo.call(
        folder, sys.executable, "-m", "pipeline.cli", "launch", "--workers", "2", "--no-finish", OMP_NUM_THREADS="1"
    )
    return folder


def killed(folder: Path, *command: str) -> None:
    """Start a command and end it without a warning once a training has kept its state."""
    started = subprocess.Popen(
        command,
        cwd=folder,
        env={**repo.user(), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not list(folder.glob(".versus/resume/*/state.pt")) and time.monotonic() < until:
        assert started.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_was_chosen_is_trained(study: Path) -> None:
    chosen = read(study / "data/chosen/tiny.json")
    assert chosen["train.lr"] != TINY["train"]["lr"]
    repo.call(study, "dvc", "repro", "--single-item", "train@tiny-0", "evaluate@tiny-0")
    assert read(study / "models/tiny-0/config.json")["train"]["lr"] == chosen["train.lr"]
    assert read(study / "reports/evaluations/tiny-0.json")["overrides"] == {"lr": chosen["train.lr"]}


def test_validation_chose_and_the_record_says_what_it_cost(study: Path) -> None:
    """Trials are short; the better one is trained in full, and chosen."""
    found = read(study / "reports/tuning.json")
    assert [(each["model"], each["trial"]) for each in found["trials"]] == [("tiny", 0), ("tiny", 1)]
    best = max(found["trials"], key=lambda each: each["val_macro_f1"])
    assert found["chosen"] == {"tiny": best["trial"]}
    assert best["settings"] == read(study / "data/chosen/tiny.json")
    (final,) = found["finals"]
    assert final["trial"] == best["trial"]
    images = sum(read(study / "data/fit/0/info.json")["train"].values())
    for each, epochs in [*((each, 8) for each in found["trials"]), (final, 12)]:
        assert each["val_macro_f1"] == max(each["curve"])
        assert len(each["curve"]) == epochs
        assert each["images"] == epochs * images
        assert each["seed"] != 0


def test_a_trial_reads_no_test_image_and_neither_does_the_choice(study: Path) -> None:
    with plan.opened(study) as opened:
        read = {stage.name: {dep.def_path for dep in stage.deps} for stage in opened.index.stages}
    model = {"data/weights/tiny", "data/trials/drawn/tiny-0.json"}
    assert read["trial@tiny-0"] - {"params.yaml"} == {"data/code/trial", "data/fit/0", *model}
    places = {"data/code/choose", "data/finalists", "data/teachers", "data/trials", "data/weights"}
    assert read["choose"] - {"params.yaml"} == places
    assert read["promote"] - {"params.yaml"} == {"data/code/promote", "data/trials"}
    assert not [
        stage for stage, paths in read.items() if "data/test/0" in paths and stage.startswith(("check", "split"))
    ]


def test_a_second_run_tries_and_trains_nothing(study: Path) -> None:
    assert repo.ran(repo.call(study, "dvc", "repro", "evaluate@tiny-0")) == []


def test_mlflow_has_a_parent_for_each_model_and_its_trials_below_it(study: Path) -> None:
    """One run for each trial, the killed one among them, with its points once."""
    store = mlflow.MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
    parent, *others = repo.runs(store, "tags.`versus.stage` = 'tune'")
    assert others == []
    assert (parent.info.run_name, parent.info.status) == ("tiny tuning", "FINISHED")
    trials = repo.runs(store, "tags.`versus.stage` = 'trial'")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    names = sorted(run.info.run_name for run in trials)
    assert names[1:] == ["tiny trial 0", "tiny trial 1"]
    assert names[0].startswith("tiny finalist ")
    assert {run.info.status for run in trials} == {"FINISHED"}
    for run in trials:
        points = store.get_metric_history(run.info.run_id, "val_macro_f1")
        assert sorted(point.step for point in points) == list(range(1, 1 + int(run.data.params["train.epochs"])))
        assert run.data.params["train.lr"] != "1e-06"
    (final,) = (run for run in trials if "finalist" in run.info.run_name)
    assert parent.data.metrics["selected_val_macro_f1"] == final.data.metrics["selected_val_macro_f1"]
