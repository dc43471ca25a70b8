"""The MLflow UI as `make ui` starts it, in a real browser: what a user of MLflow sees of a study."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests

from pipeline.base.errors import StageError
from pipeline.tracking import runs, ui
from pipeline.tracking import store as tracking_store
from tests import browser, repo

SCORES = {"tiny-0": 0.75, "tiny-1": 0.875, "vit-0": 0.5}  # made-up, on validation images
ROWS = """[...document.querySelectorAll('.ag-row')].map(row => [+row.getAttribute('row-index'),
  row.querySelector('a[href*="/runs/"]')?.textContent]).filter(each => each[1]).sort((a, b) => a[0] - b[0])
  .map(each => each[1])"""
CELLS = """Object.fromEntries([...document.querySelectorAll('.ag-pinned-left-cols-container .ag-row')].map(row => [
  row.querySelector('a[href*="/runs/"]')?.textContent, [...document.querySelectorAll(
    `.ag-center-cols-container .ag-row[row-index="${row.getAttribute('row-index')}"] [col-id="metrics.\\`METRIC\\`"]`
  )].map(each => each.textContent)[0]]).filter(each => each[0]))"""  # a group's row has no link


@pytest.fixture(scope="module")
def store(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mlflow.MlflowClient]:
    """Three trainings with their evaluations and the champion of a report."""
    folder = Path(shutil.copytree(trained_folder, tmp_path_factory.mktemp("shown"), dirs_exist_ok=True))
    (folder / ".dvc").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tracking_store, "GIVEN", "")
        for variable in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
            patch.delenv(variable, raising=False)
        for name, score in SCORES.items():
            config = json.loads((folder / f"models/{name}/config.json").read_text())
            key = json.loads((folder / f"models/{name}/run.json").read_text())["key"]
            with runs.training_run(name, key, config) as run:
                run.model(Path("models") / name, np.load("data/test/0/images.npy")[:1], "crop")
                for epoch in (1, 2):
                    run.metrics({"val_macro_f1": score * epoch / 2, "train_loss": 1 / epoch}, step=epoch)
                run.metrics({"selected_val_macro_f1": score})
            with runs.evaluation_run(name, key, config, lambda _: None) as run:
                run.metrics({"test_macro_f1": score - 0.125, "test_f1/0": score})
        with runs.report_run() as run:
            run.summarise("Of 3 pairs, 2 differ.\n\nA table.")
            run.champion(json.loads((folder / "reports/evaluations/tiny-1.json").read_text()))
        yield mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what `make ui` says stands."""
    return tmp_path_factory.mktemp("server") / "log.txt"


@pytest.fixture(scope="module")
def address(store: mlflow.MlflowClient, log: Path) -> Iterator[str]:
    """What `make ui` runs, on a port that is free."""
    (port,) = repo.free_ports()
    command = repo.make("--dry-run", "ui", f"PORT={port}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["bash", "-c", command],
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": store.tracking_uri},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(900):
                with contextlib.suppress(requests.RequestException):
                    if requests.get(f"{url}/health", timeout=1).ok:
                        break
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    with browser.started() as opened:
        opened.look(1700)
        yield opened


def test_make_ui_answers(store: mlflow.MlflowClient, address: str) -> None:
    assert "<title>MLflow</title>" in requests.get(address, timeout=30).text
    found, known = (client.get_experiment_by_name("digits") for client in (mlflow.MlflowClient(address), store))
    assert found is not None
    assert known is not None
    assert found.experiment_id == known.experiment_id


def test_the_table_of_runs_has_each_training_with_its_evaluation_below_it_and_views_with_the_scores(
    store: mlflow.MlflowClient, address: str, tab: browser.Browser
) -> None:
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    tab.open(f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning")
    tab.wait(f"{ROWS}.length == 4")
    assert tab.evaluate(ROWS) == ["report", "vit-0", "tiny-1", "tiny-0"]
    tab.evaluate(
        """[...document.querySelectorAll('.ag-pinned-left-cols-container .ag-row')].find(
        row => row.textContent.includes('tiny-1')).querySelector('button').click()"""
    )
    tab.wait(f"{ROWS}.length == 5")
    assert tab.evaluate(ROWS) == ["report", "vit-0", "tiny-1", "tiny-1 test", "tiny-0"]
    assert "named model-replicate" in tab.evaluate("document.body.innerText")
    tests = {f"{name} test": score - 0.125 for name, score in SCORES.items()}
    for view, metric, scores in (
        ("Scores", "selected_val_macro_f1", SCORES),
        ("Test scores", "test_macro_f1", tests),
    ):
        pick(tab, view)
        tab.wait(f"{ROWS}.length == 3 && {CELLS.replace('METRIC', metric)}[{json.dumps(min(scores))}]")
        ranked = sorted(scores, key=lambda name: -scores[name])
        assert tab.evaluate(ROWS) == ranked
        shown = tab.evaluate(CELLS.replace("METRIC", metric))
        assert {name: shown[name] for name in ranked} == {name: str(scores[name]) for name in ranked}


def test_the_address_that_make_ui_prints_opens_test_and_validation_scores_with_the_means_of_replicates(
    address: str, log: Path, tab: browser.Browser
) -> None:
    for _ in range(100):
        if "Ctrl-C" in log.read_text():
            break
        time.sleep(0.1)
    (scores,) = re.findall(r"^digits +(\S+)$", log.read_text(), re.MULTILINE)
    assert scores.startswith(f"{address}/#/experiments/")
    tab.open(scores)
    tab.wait(f"{ROWS}.length == 3 && {CELLS.replace('METRIC', 'test_macro_f1')}['vit-0']")
    columns = [tab.evaluate(CELLS.replace("METRIC", each)) for each in ("selected_val_macro_f1", "test_macro_f1")]
    for found, less in zip(columns, (0, 0.125), strict=True):
        assert {name: found[name] for name in SCORES} == {name: str(score - less) for name, score in SCORES.items()}
    text = tab.evaluate("document.body.innerText")
    assert "0.8125 (average)" in text, "of tiny's two replicates by validation"
    assert "Of 3 pairs, 2 differ. All scores" in text, "above the table"
    tab.evaluate("document.querySelector('[value=CHART]').click()")
    tab.wait(r"/Scores\s*\(4\)/.test(document.body.innerText)")  # charts of the scores alone, not of all metrics
    assert {"test_macro_f1", "val_macro_f1", "train_loss"} <= set(tab.evaluate("document.body.innerText").split())


def test_an_evaluations_scores_are_at_its_training_too(store: mlflow.MlflowClient) -> None:
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id], "attributes.run_name = 'tiny-0'")
    assert run.data.metrics["test_macro_f1"] == SCORES["tiny-0"] - 0.125
    assert "test_f1/0" not in run.data.metrics, "the rest is at the evaluation"


def name_server(address: str, patch: pytest.MonkeyPatch) -> None:
    """As MLFLOW_TRACKING_URI would; what starts a server of its own fails."""
    patch.setattr(tracking_store, "GIVEN", address)
    patch.delattr(subprocess, "Popen")
    for key, value in ui.ASKED_ONCE.items():  # no test after this one finds it in its environment
        patch.setenv(key, value)


def test_a_teams_server_is_named_in_one_line_and_none_is_started(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name_server(address, monkeypatch)
    ui.serve(5000)
    said = f"ui: the server of MLFLOW_TRACKING_URI has the runs, and none is started here; open {address}\n"
    assert capsys.readouterr() == (said, "")


def test_a_teams_server_that_is_away_is_told_in_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    name_server("http://127.0.0.1:9", monkeypatch)
    told = r"^ui: http://127.0.0.1:9 does not give its runs \(.* refused.*\); see that its server is up .*, or unset"
    with pytest.raises(StageError, match=told) as error:
        ui.serve(5000)
    assert "\n" not in str(error.value)


def test_where_there_is_no_checkout_no_store_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    with pytest.raises(StageError, match="ui: no checkout of Versus here; run `versus ui` in one"):
        ui.serve(5000)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_refused_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StageError, match=r"ui: port \d+ cannot be used \(.* in use\); give another by --port"):
            ui.usable(taken.getsockname()[1])


def test_a_server_that_ends_by_itself_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: popen([sys.executable, "-c", "raise SystemExit(3)"]))
    monkeypatch.setattr(ui, "wait", lambda *_: None)
    monkeypatch.setattr(ui, "told", lambda _: [])
    with pytest.raises(StageError, match=r"^ui: MLflow's server ended \(3\); what it says stands above$"):
        ui.serve(0)


def test_port_0_is_one_that_is_free() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ui.usable(0)))
        assert listening.getsockname()[1] != 0


def test_the_server_is_found_behind_a_proxy(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(ui, "PATIENCE", 5.0)
    with subprocess.Popen(["sleep", "60"]) as server:
        try:
            ui.wait(server, address)
        finally:
            server.kill()


def pick(tab: browser.Browser, view: str) -> None:
    """Choose a saved view from the menu, which bears the name of the present one."""
    menu = "document.querySelector('[data-component-id=\"mlflow.experiment_page.saved_views.trigger\"]')"
    entry = f"[...document.querySelectorAll('[role=menuitem]')].find(each => each.textContent.includes('{view}'))"
    tab.wait(menu)
    tab.evaluate(f"{menu}.dispatchEvent(new PointerEvent('pointerdown', {{bubbles: true, button: 0}}))")
    tab.wait(entry)
    tab.evaluate(f"{entry}.click()")


def test_the_registered_model_says_which_version_is_the_champion_and_what_it_takes(
    address: str, tab: browser.Browser
) -> None:
    tab.open(f"{address}/#/models/digits")
    tab.wait(r"/Version 1\b[^]*@\s*champion/.test(document.body.innerText)")
    text = tab.evaluate("document.body.innerText")
    assert "tiny-1: validation macro-F1" in text
    assert 'load_model("models:/digits@champion")' in text


def test_the_table_of_models_says_which_one_is_registered(store: mlflow.MlflowClient) -> None:
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    found = {model.name: model.tags for model in store.search_logged_models([experiment.experiment_id])}
    assert json.loads(found["tiny-1"]["mlflow.modelVersions"]) == [{"name": "digits", "version": 1}]
    assert "mlflow.modelVersions" not in found["tiny-0"]
