"""The MLflow store: one for all stages from its very first use, tidy after a kill."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from pipeline.base.errors import PassingError, StageError
from pipeline.params.read import flatten
from pipeline.tracking import runs
from pipeline.tracking import store as tracking_store
from tests import trees


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout without a store yet, as the working directory."""
    (tmp_path / ".dvc").mkdir()
    trees.study(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def store(home: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")


def statuses(home: Path) -> dict[str, str]:
    client = store(home)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run.info.status for run in client.search_runs(ids)}


def python(home: Path, code: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(trees.ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=home, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_run_whose_process_was_killed_is_closed_by_the_next_stage(home: Path) -> None:
    code = "import os, signal\nfrom pipeline.tracking import runs\nwith runs.report_run():\n  os.kill(os.getpid(), 9)"
    killed = python(home, code)
    killed.communicate()
    assert killed.returncode == -9
    assert statuses(home) == {"report": "RUNNING"}
    with runs.data_run("fetch"):
        pass
    assert statuses(home) == {"report": "KILLED", "data": "FINISHED"}


def test_a_run_of_a_living_process_is_left_alone(home: Path) -> None:
    code = "from pipeline.tracking import runs\nwith runs.report_run():\n  print('open', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(trees.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with runs.data_run("fetch"):
        pass
    assert statuses(home) == {"report": "RUNNING", "data": "FINISHED"}
    other.communicate("\n")
    assert statuses(home)["report"] == "FINISHED"


def test_three_processes_may_make_the_store_at_once(home: Path) -> None:
    code = "from pipeline.tracking import runs\nwith runs.report_run() as run:\n  print(run.id)"
    started = [python(home, code) for _ in range(3)]
    ids = {process.communicate()[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    (experiment,) = (e for e in store(home).search_experiments() if e.name == "digits")
    assert {run.info.run_id for run in store(home).search_runs([experiment.experiment_id])} == ids


def test_the_stages_of_one_state_of_the_data_share_a_run_and_another_state_has_its_own(home: Path) -> None:
    for stage in ("fetch", "split"):
        with runs.data_run(stage) as run:
            run.metrics({"train_images": 10})
    (shared,) = store(home).search_runs(["1"])
    assert len(store(home).get_metric_history(shared.info.run_id, "train_images")) == 1
    assert shared.data.params["dataset.name"] == "digits"

    trees.study(home, {"dataset.imbalance": 3})
    with runs.data_run("split"):
        pass
    assert len(store(home).search_runs(["1"])) == 2


VALUES = {
    "model": "cnn",
    "replicate": 0,
    "lr": 0.1,
    "network": {"family": "timm", "backbone": "resnet18"},
    "data": {"title": "Digits"},
}
TRAINING = f"runs.training_run('cnn-0', 'k', {VALUES})"


def test_a_killed_training_goes_on_in_its_run_without_double_points(home: Path) -> None:
    code = f"""
import os
from pipeline.tracking import runs
with {TRAINING} as run:
    for step in (1, 2):
        run.later({{'val_macro_f1': step / 10}}, step)
    os.kill(os.getpid(), 9)
"""
    for _ in range(2):
        python(home, code).communicate()
    with runs.training_run("cnn-0", "k", VALUES) as run:
        for step in (1, 2, 3):
            run.later({"val_macro_f1": step / 10}, step)
        run.settle()
    assert statuses(home) == {"cnn-0": "FINISHED"}
    points = store(home).get_metric_history(run.id, "val_macro_f1")
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    with runs.training_run("cnn-0", "k", VALUES) as anew:
        assert anew.id != run.id, "a finished training that is repeated is another run"
    with runs.training_run("cnn-0", "k", VALUES, run.id) as known:
        assert known.id == run.id, "unless a kill came after its end and before DVC knew"


def test_the_same_training_in_another_checkout_has_a_run_of_its_own(home: Path) -> None:
    """Two curves in one run would be nobody's."""
    code = f"""
import time
from pipeline.tracking import runs
with {TRAINING}:
    print("open", flush=True)
    time.sleep(60)
"""
    other = python(home, code)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with runs.training_run("cnn-0", "k", VALUES) as mine:
        mine.later({"val_macro_f1": 0.5}, 1)
    other.kill()
    other.communicate()
    found = {run.info.run_id: run.info.status for run in store(home).search_runs(["1"])}
    assert len(found) == 2
    assert found[mine.id] == "FINISHED"


def test_an_interrupted_stage_leaves_a_killed_run(home: Path) -> None:
    with pytest.raises(KeyboardInterrupt), runs.report_run():
        raise KeyboardInterrupt
    assert statuses(home) == {"report": "KILLED"}


@pytest.mark.usefixtures("home")
def test_a_server_that_is_away_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "GIVEN", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = r"MLflow store http://127.0.0.1:9 does not answer .* nothing .* is lost"
    with pytest.raises(StageError, match=told), runs.report_run():
        raise AssertionError("not reached")


def test_a_server_that_goes_away_does_not_end_a_training(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with runs.report_run() as run:
        here, away = run.client, mlflow.MlflowClient("http://127.0.0.1:9")
        run.client = away
        for step in (1, 2):
            run.later({"loss": 0.5}, step)
        assert capsys.readouterr().err.count("the training goes on") == 1
        with pytest.raises(StageError, match="does not answer"):
            run.settle()
        run.client = here
        run.settle()
    assert [point.step for point in store(home).get_metric_history(run.id, "loss")] == [1, 2]


def test_a_kill_while_the_store_is_made_leaves_no_half_store(home: Path) -> None:
    """Its tables are made under another name: MLflow does not mend a file that has only some of them."""
    code = "from pipeline.tracking import runs\nwith runs.report_run():\n  pass"
    maker = python(home, code)
    while maker.poll() is None and not list(home.glob(".mlflow.db.*.part")):
        time.sleep(0.01)
    maker.kill()
    maker.communicate()
    assert not (home / "mlflow.db").exists()
    with runs.report_run():
        pass
    assert statuses(home) == {"report": "FINISHED"}
    assert not list(home.glob(".mlflow.db*"))


def test_a_failing_stage_leaves_a_failed_run(home: Path) -> None:
    with pytest.raises(ValueError, match="broken"), runs.report_run():
        raise ValueError("broken")
    assert statuses(home) == {"report": "FAILED"}


def test_values_that_are_not_finite_are_not_logged(home: Path) -> None:
    """MLflow would store an infinity as 1.8e308."""
    with runs.report_run() as run:
        run.metrics({"good": 1.0, "bad": float("inf"), "worse": float("nan")})
    assert store(home).get_run(run.id).data.metrics == {"good": 1.0}


def test_a_tracking_uri_of_the_users_own_is_honoured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "GIVEN", f"sqlite:///{home / 'elsewhere.db'}")
    with runs.report_run():
        pass
    assert (home / "elsewhere.db").exists()
    assert not (home / "mlflow.db").exists()


def test_a_relative_tracking_uri_is_one_store_for_all_studies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/mlflow.md names it; of a launch's clone below .dvc it would go with the clone."""
    monkeypatch.setattr(tracking_store, "GIVEN", "sqlite:///elsewhere.db")
    (home / "studies/mine").mkdir(parents=True)
    monkeypatch.chdir(home / "studies/mine")
    with runs.report_run():
        pass
    assert [path.relative_to(home) for path in home.rglob("*.db")] == [Path("elsewhere.db")]


def test_settings_become_what_mlflow_takes() -> None:
    assert flatten({"train": {"lr": 0.1, "deep": {"x": [1]}}, "seed": 0}) == {
        "train.lr": 0.1,
        "train.deep.x": [1],
        "seed": 0,
    }


def test_classes_that_sanitise_alike_have_metrics_of_their_own_in_the_store(home: Path) -> None:
    """As evaluate logs them: `<5mm` and `>5mm` once had one name, and the data base refused the second value."""
    classes = ["<5mm", ">5mm", "_5mm", "Cat", "cat", "a", "a ", "a.", "e\u0301", "a/../b", "..", "x" * 300, "x" * 299]
    values = {f"test_f1/{name}": place / 100 for place, name in enumerate(classes)}
    with runs.report_run() as run:
        run.metrics(values)
        run.metrics(dict.fromkeys(values))  # what is undefined has a name, and no value
    logged = store(home).get_run(run.id).data.metrics
    assert sorted(logged.values()) == sorted(values.values())
    assert all(name.startswith("test_f1") for name in logged)
    assert len({name.casefold().rstrip(" .") for name in logged}) == len(classes)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the font has no such letter
def test_the_matrix_of_classes_that_look_like_mathematics_is_drawn_as_they_are_called(home: Path) -> None:
    with runs.report_run() as run:
        run.confusion(np.eye(4, dtype=int), ["$x^2$", r"$\frac$", "a_b^", "$"])
    assert "confusion_matrix.png" in [each.path for each in store(home).list_artifacts(run.id)]


def make_store(home: Path) -> Path:
    with runs.report_run():
        pass
    return home / "mlflow.db"


def spoil_bytes(home: Path) -> None:
    (home / "mlflow.db").write_bytes(np.random.default_rng(0).bytes(5000))


def cut_short(home: Path) -> None:
    path = make_store(home)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_folder(home: Path) -> None:
    (home / "mlflow.db").mkdir()


def forbid_writing(home: Path) -> None:
    make_store(home).chmod(0o400)
    if os.access(home / "mlflow.db", os.W_OK):
        pytest.skip("root may write what is forbidden")


@pytest.mark.parametrize("spoil", [spoil_bytes, cut_short, make_folder, forbid_writing])
def test_a_store_that_is_broken_is_told_from_one_that_is_away_and_not_tried_again(
    home: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(home)
    begun = time.monotonic()
    with pytest.raises(StageError, match=r"is no data base that can be used .*`mv \S*mlflow.db \S*`") as error:
        make_store(home)
    assert not isinstance(error.value, PassingError)
    assert "\n" not in str(error.value)
    assert time.monotonic() - begun < 15  # MLflow itself tries for 100 s
    (home / "mlflow.db").rename(home / "mlflow.db.aside")
    if spoil is not cut_short:  # of which MLflow has a connection open in this process
        make_store(home)  # the remedy


def test_a_store_that_another_holds_may_answer_later(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "PATIENCE", 0.1)
    path = make_store(home)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(PassingError, match=r"does not answer \(database is locked\)"):
            make_store(home)
    make_store(home)


@pytest.mark.usefixtures("home")
def test_what_a_store_refuses_is_not_taken_for_its_absence() -> None:
    with pytest.raises(StageError, match=r"refuses what it is sent .*IntegrityError") as error, runs.report_run():
        raise mlflow.MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed", error_code=BAD_REQUEST)
    assert not isinstance(error.value, PassingError)


def test_a_checkout_may_lie_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "don't 100% #1 [x] größe"
    (place / ".dvc").mkdir(parents=True)
    trees.study(place, {})
    monkeypatch.chdir(place)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    with runs.report_run() as run:
        run.artifact(Path("params.yaml"))
    assert (place / "mlflow.db").exists()
    assert list((place / "mlartifacts").rglob("params.yaml"))
    mlflow.set_tracking_uri(None)
