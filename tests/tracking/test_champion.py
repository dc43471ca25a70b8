"""The registered champion, as MLflow's users take it: the real store, the real client, the real scoring server."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image
from scipy.special import softmax

from pipeline.base.errors import StageError
from pipeline.records.predictions import logits_path
from pipeline.tracking import runs
from pipeline.tracking import store as tracking_store
from pipeline.tracking.run import Run
from tests import repo, trees

NAME = "digits"


@pytest.fixture(scope="module")
def home(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained study with the results of evaluate in a store that never saw the trainings."""
    folder = Path(shutil.copytree(trained_folder, tmp_path_factory.mktemp("tracked"), dirs_exist_ok=True))
    (folder / ".dvc").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_EXP_NAME", raising=False)
        patch.setattr(tracking_store, "GIVEN", "")
        for name in ("tiny-0", "tiny-1"):
            log(folder, name)
    return folder


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.MlflowClient]:
    monkeypatch.chdir(home)
    monkeypatch.setattr(tracking_store, "GIVEN", "")
    for variable in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"):
        monkeypatch.delenv(variable, raising=False)
    uri = f"sqlite:///{home / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    yield client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    mlflow.set_tracking_uri(None)


def log(folder: Path, name: str) -> None:
    """What evaluate logs of a training that the store does not know."""
    config = json.loads((folder / f"models/{name}/config.json").read_text())
    key = json.loads((folder / f"models/{name}/run.json").read_text())["key"]
    example = np.load(folder / "data/test/0/images.npy")[:1]

    def log_model(run: Run) -> None:
        run.model(Path("models") / name, example, "crop")

    with runs.evaluation_run(name, key, config, log_model) as run:
        run.metrics({"test_accuracy": 0.5})


def report(folder: Path, name: str, **changes: Any) -> None:
    """What report logs where `name` is the best by validation."""
    evaluation = json.loads((folder / f"reports/evaluations/{name}.json").read_text())
    evaluation["selected"] |= {key: value for key, value in changes.items() if key != "digest"}
    if "digest" in changes:
        evaluation["config"]["dataset"]["digest"] = changes["digest"]
    with runs.report_run() as run:
        run.summarise("Two models.")
        run.champion(evaluation)


def versions(store: mlflow.MlflowClient) -> dict[str, bool]:
    """Replicate -> whether it is the champion."""
    found = sorted(store.search_model_versions(f"name = '{NAME}'"), key=lambda each: each.version)
    champion = str(store.get_model_version_by_alias(NAME, "champion").version)
    names = [f"{each.tags['versus.model']}-{each.tags['versus.replicate']}" for each in found]
    return {name: str(each.version) == champion for name, each in zip(names, found, strict=True)}


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "png")
    return file.getvalue()


@pytest.mark.usefixtures("store")
def test_the_champion_answers_arrays_and_files_as_evaluate_did(home: Path) -> None:
    report(home, "tiny-1")
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    images = np.load(home / "data/test/0/images.npy")[:40]  # (N, 8, 8, 1)
    reported = softmax(np.load(logits_path("tiny-1", home))[:40].astype(float), axis=1)
    answers = model.predict(images)
    assert list(answers["class"]) == [str(digit) for digit in reported.argmax(1)]
    assert answers.filter(like="p(").to_numpy() == pytest.approx(reported, abs=2e-5)

    files = [png(image) for image in images]
    encoded = [base64.b64encode(file).decode() for file in files]
    for request in (files, encoded, pd.DataFrame({"image": encoded}), np.repeat(images, 3, axis=3), images[..., 0]):
        pd.testing.assert_frame_equal(model.predict(request), answers)
    assert len(model.predict(images[:1])) == 1
    larger = np.stack([np.asarray(Image.fromarray(image[..., 0]).resize((90, 60))) for image in images])
    assert list(model.predict(larger).columns) == list(answers.columns)
    assert {path.suffix for path in (home / "mlartifacts").rglob("*")}.isdisjoint({".pkl", ".pickle", ".pt", ".pth"})


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (np.zeros((2, 8, 8, 2), np.uint8), "1 or 3 channels"),
        (np.full((2, 8, 8, 1), 0.5), "whole numbers from 0 to 255"),
        (["!"], "not base64: '!'"),
        (["é"], "not base64: 'é'"),
        ([[[1, 2], [3]]], "rows of one length"),
        (np.zeros((1, 0, 8, 1), np.uint8), "whole numbers from 0 to 255"),
        ([b"no image"], "the image"),
        (np.zeros((0, 8, 8, 1), np.uint8), "no images"),
        (pd.DataFrame({"picture": ["x"]}), "a column 'image'; found picture"),
    ],
)
def test_a_request_that_is_no_image_is_told_what_is(trained_study: Path, request_: Any, said: str) -> None:
    from pipeline.trained.serving import Classifier

    with pytest.raises(StageError, match=said):
        Classifier(trained_study / "models/tiny-0", 8, 1, "crop").predict(request_)


def test_a_rerun_with_the_same_result_adds_no_version(home: Path, store: mlflow.MlflowClient) -> None:
    report(home, "tiny-0")
    report(home, "tiny-0")
    assert versions(store) == {"tiny-0": True}
    (version,) = store.search_model_versions(f"name = '{NAME}'")
    evaluation = json.loads((home / "reports/evaluations/tiny-0.json").read_text())
    assert float(version.tags["val_macro_f1"]) == evaluation["selected"]["val_macro_f1"]
    assert "validation macro-F1" in version.description
    assert "models:/digits@champion" in store.get_registered_model(NAME).description


def test_the_study_as_it_stands_names_its_own_best_and_an_older_one_is_found_again(
    home: Path, store: mlflow.MlflowClient
) -> None:
    report(home, "tiny-0", val_macro_f1=0.9)
    report(home, "tiny-1", val_macro_f1=0.8)
    assert versions(store) == {"tiny-0": False, "tiny-1": True}
    report(home, "tiny-0", val_macro_f1=0.9)
    assert versions(store) == {"tiny-0": True, "tiny-1": False}


@pytest.mark.parametrize("kind", [int, str])  # as a data base and as a server give versions
def test_an_experiment_takes_the_alias_only_by_a_higher_validation_score_on_the_same_images(
    home: Path, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    real = mlflow.MlflowClient.search_model_versions

    def told(self: mlflow.MlflowClient, query: str) -> list[Any]:
        found = list(real(self, query))
        for each in found:
            each._version = kind(each.version)
        return found

    monkeypatch.setattr(mlflow.MlflowClient, "search_model_versions", told)
    report(home, "tiny-0", val_macro_f1=0.9)
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-gate")
    report(home, "tiny-1", val_macro_f1=0.9)
    report(home, "tiny-1", val_macro_f1=0.95, digest="of other images")
    assert versions(store) == {"tiny-0": True}
    report(home, "tiny-1", val_macro_f1=0.95)
    assert versions(store) == {"tiny-0": False, "tiny-1": True}
    tags = store.get_model_version_by_alias(NAME, "champion").tags
    assert tags["dvc.experiment"] == "rusty-gate"


def test_a_registered_model_of_others_with_the_studys_name_stays_as_it_is(
    home: Path, store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Studies of a team share a store, and `digits` and `champion` are names that others use."""
    store.create_registered_model(NAME, description="In production")
    theirs = store.create_model_version(NAME, str(home / "theirs"))
    store.set_registered_model_alias(NAME, "champion", theirs.version)
    report(home, "tiny-0")
    assert "a model digits that is not of Versus; it stays as it is" in capsys.readouterr().err
    found = store.get_registered_model(NAME)
    assert (found.description, dict(found.aliases)) == ("In production", {"champion": theirs.version})
    assert len(store.search_model_versions(f"name = '{NAME}'")) == 1


def test_results_of_before_models_were_registered_register_nothing(home: Path, store: mlflow.MlflowClient) -> None:
    evaluation = json.loads((home / "reports/evaluations/tiny-0.json").read_text())
    del evaluation["run"]["key"]
    with runs.report_run() as run:
        run.champion(evaluation)
    assert store.search_registered_models() == []


def test_runs_of_an_experiment_carry_its_name_and_say_what_it_changes(
    home: Path, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trees.study(tmp_path, {"models.hybrid.depth": 2})
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=T", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    baseline = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True)
    trees.study(tmp_path, {"models.hybrid.depth": 7})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-gate")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", baseline.stdout.strip())
    monkeypatch.setattr(tracking_store, "GIVEN", f"sqlite:///{home / 'mlflow.db'}")
    with runs.report_run() as run:
        run.summarise("Two models.")
    logged = store.get_run(run.id)
    assert logged.info.run_name == "report (rusty-gate)"
    assert logged.data.tags["dvc.changes"] == "models.hybrid.depth: 2 -> 7"
    assert logged.data.tags["mlflow.note.content"].endswith("- `models.hybrid.depth`: 2 -> 7")
    assert "rusty-gate" not in str(store.get_experiment_by_name(NAME).tags)


@pytest.mark.usefixtures("home")
def test_test_scores_stand_beside_the_model_that_was_evaluated(store: mlflow.MlflowClient) -> None:
    experiment = store.get_experiment_by_name(NAME)
    assert experiment is not None
    found = {model.name: model for model in store.search_logged_models([experiment.experiment_id])}
    assert sorted(found) == ["tiny-0", "tiny-1"]
    assert [metric.key for metric in found["tiny-0"].metrics] == ["test_accuracy"]


@pytest.mark.usefixtures("store")
def test_mlflow_serves_the_champion_with_class_names_and_probabilities(home: Path) -> None:
    """`mlflow models serve`, as the docs give it."""
    report(home, "tiny-0")
    (port,) = repo.free_ports()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{NAME}@champion"]
    log_file = home / "server.txt"
    output = log_file.open("wb")
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        cwd=home,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}", "PYTHONPATH": ""},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if requests.get(f"{url}/ping", timeout=1).ok:
                    break
            except requests.RequestException:
                assert server.poll() is None, log_file.read_text()
                time.sleep(0.2)
        images = np.load(home / "data/test/0/images.npy")[:3]
        reported = softmax(np.load(logits_path("tiny-0", home))[:3].astype(float), axis=1)
        encoded = [{"image": base64.b64encode(png(image)).decode()} for image in images]
        for payload in ({"inputs": images.tolist()}, {"dataframe_records": encoded}):
            response = requests.post(f"{url}/invocations", json=payload, timeout=60)
            assert response.status_code == 200, response.text
            answers = response.json()["predictions"]
            assert [answer["class"] for answer in answers] == [str(digit) for digit in reported.argmax(1)]
            assert [answer["p(0)"] for answer in answers] == pytest.approx(reported[:, 0], abs=2e-5)
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
        output.close()


@pytest.mark.parametrize("name", ["don't 100% #1 [x]", "a\"b'c`d\\e", "-größe 猫 @2; <b>"])
def test_a_study_may_be_called_anything_that_its_folder_and_an_address_can_be(
    home: Path, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its name is an experiment's, a folder's of artifacts and a model's, and stands in queries and addresses."""
    place = home / "studies" / name
    place.mkdir(parents=True)
    (place / "models").symlink_to(home / "models")
    monkeypatch.chdir(place)
    for replicate in ("tiny-0", "tiny-1", "tiny-0"):
        log(home, replicate)
        report(home, replicate)
    found = [each for each in store.search_model_versions() if each.name == name]
    assert len(found) == 2
    champion = store.get_model_version_by_alias(name, "champion")
    assert champion.tags["versus.replicate"] == "0"
    images = np.load(home / "data/test/0/images.npy")[:2]
    assert len(mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(images)) == 2
