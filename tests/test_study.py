"""A study as a user runs it: the real DVC, the real MLflow store, the repository's own files, networks of seconds."""

import hashlib
import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from pipeline.records import looks
from pipeline.records.predictions import Predictions, logits_path, predictions_path
from tests import repo, trees

MODELS = ("cnn", "hybrid", "vit")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which `dvc repro` has run the default study, made small."""
    folder = repo.copy(tmp_path_factory.mktemp("checkout"))
    repo.change(folder, repo.SMALL)
    (folder / "output.txt").write_text(repo.call(folder, "dvc", "repro"))
    repo.commit(folder)
    return folder


@pytest.fixture(scope="module")
def store(checkout: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")


def restore(checkout: Path) -> None:
    """The state of the last commit, its data and weights from the cache."""
    repo.call(checkout, "git", "reset", "--quiet", "--hard")  # DVC stages what it writes
    repo.call(checkout, "dvc", "checkout", "--force")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below `folder`."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# What a run leaves


def test_a_second_repro_does_nothing(checkout: Path) -> None:
    output = repo.call(checkout, "dvc", "repro")
    assert repo.ran(output) == []


def test_what_a_removed_model_left_makes_nothing_stale_and_other_weights_do(checkout: Path) -> None:
    """models/ of another clone has no leftovers, and what explain and report made here is to hold there."""
    left = checkout / "models/old-0"
    shutil.copytree(checkout / "models/cnn-0", left)
    try:
        assert "up to date" in repo.call(checkout, "dvc", "status", "explain", "report")
    finally:
        shutil.rmtree(left)
    path = checkout / "reports/evaluations/cnn-0.json"
    before = path.read_text()
    evaluation = json.loads(before)
    evaluation["run"]["weights_sha256"] = "0" * 64  # as after another training
    path.write_text(json.dumps(evaluation))
    try:
        said = repo.call(checkout, "dvc", "status", "explain")
        assert "reports/evaluations" in said
    finally:
        path.write_text(before)


def test_every_model_is_reported_with_its_test_scores(checkout: Path) -> None:
    metrics = json.loads((checkout / "reports/metrics.json").read_text())
    assert metrics["study"] == "digits"
    assert sorted(metrics["models"]) == list(MODELS)
    for name, model in metrics["models"].items():
        right = Predictions.read(predictions_path(f"{name}-0", checkout)).right
        assert model["images"] == len(right) == 360
        assert model["accuracy"]["mean"] == pytest.approx(right.mean())
        assert model["accuracy"]["n"] == 1


def test_predictions_are_probabilities_whose_largest_is_the_prediction(checkout: Path) -> None:
    found = Predictions.read(predictions_path("cnn-0", checkout))
    assert found.probabilities.sum(1) == pytest.approx(1, abs=5e-3)
    assert found.confidence == pytest.approx(found.probabilities[range(360), found.predicted], abs=6e-4)
    assert found.confidence == pytest.approx(found.probabilities.max(1), abs=6e-4)


def test_a_mistake_can_be_found_by_the_name_of_its_file(checkout: Path) -> None:
    index = pd.read_csv(checkout / "data/raw/index.csv", dtype=str).set_index("name")
    found = Predictions.read(predictions_path("cnn-0", checkout)).frame()
    assert found["actual"].tolist() == index.loc[found["image"], "label"].tolist()


def test_test_images_are_no_dependency_of_training(checkout: Path) -> None:
    """Nothing that train reads changes with a test image: DVC itself keeps the test set locked."""
    lock = trees.YAML(typ="safe").load((checkout / "dvc.lock").read_text())
    for name, stage in lock["stages"].items():
        paths = [entry["path"] for entry in stage.get("deps", [])]
        if name.startswith("train@"):
            assert f"data/fit/{name.rpartition('-')[2]}" in paths
            assert not [path for path in paths if path.startswith(("data/test", "data/raw"))]


def test_what_belongs_to_git_is_left_to_git_and_the_rest_to_dvc(checkout: Path) -> None:
    tracked = repo.call(checkout, "git", "ls-files").splitlines()
    wanted = {"dvc.lock", "reports/metrics.json", "reports/report.html", "reports/predictions/vit-0.parquet"}
    assert {*wanted, "reports/looks.jsonl"} <= set(tracked)
    assert not [path for path in tracked if path.endswith((".npy", ".bin", ".safetensors", ".db"))]


# MLflow


def test_runs_are_one_for_data_one_for_each_training_with_its_evaluation_one_each_for_what_is_of_the_study(
    store: mlflow.MlflowClient,
) -> None:
    found = [(run.info.run_name, run.data.tags["versus.stage"], run.info.status) for run in repo.runs(store)]
    wanted = [
        ("data", "fetch"),
        ("explain", "explain"),
        ("labels", "labels"),
        ("latency", "latency"),
        ("report", "report"),
    ]
    wanted += [(f"{name}-0", "train") for name in MODELS] + [(f"{name}-0 test", "evaluate") for name in MODELS]
    assert sorted(found) == sorted((*entry, "FINISHED") for entry in wanted)


def test_an_evaluation_is_the_child_of_its_training(store: mlflow.MlflowClient, checkout: Path) -> None:
    names = {run.info.run_id: run.info.run_name for run in repo.runs(store)}
    for run in repo.runs(store, "tags.`versus.stage` = 'evaluate'"):
        name = run.info.run_name.removesuffix(" test")
        assert names[run.data.tags["mlflow.parentRunId"]] == name
        evaluation = json.loads((checkout / f"reports/evaluations/{name}.json").read_text())
        for score, value in evaluation["scores"].items():
            assert run.data.metrics[f"test_{score}"] == pytest.approx(value)
        paths = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
        assert {"confusion_matrix.png", f"{name}.json", f"{name}.parquet"} <= paths


def test_a_training_has_its_resolved_parameters_its_data_and_a_point_per_epoch(
    store: mlflow.MlflowClient, checkout: Path
) -> None:
    (run,) = repo.runs(store, "attributes.run_name = 'cnn-0'")
    history = pd.read_csv(checkout / "reports/histories/cnn-0.csv")
    for column in ("train_loss", "val_macro_f1", "lr"):
        points = store.get_metric_history(run.info.run_id, column)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx(list(history[column]))
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["network.backbone"] == "resnet18"
    (used,) = run.inputs.dataset_inputs
    digest = json.loads((checkout / "data/fit/0/info.json").read_text())["digest"]
    assert used.dataset.digest == digest[:36]
    assert {tag.key: tag.value for tag in used.tags}["mlflow.data.context"] == "training"
    assert run.data.tags["versus.commit"] == repo.call(checkout, "git", "rev-parse", "HEAD~1").strip()
    assert run.data.tags["versus.dirty"] == "false"
    assert [name for name in run.data.metrics if name.startswith("system/")]


def test_the_logged_model_predicts_what_evaluate_reported(
    store: mlflow.MlflowClient, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    mlflow.set_tracking_uri(f"sqlite:///{checkout / 'mlflow.db'}")
    (run,) = repo.runs(store, "attributes.run_name = 'cnn-0'")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/cnn-0")
    images = np.load(checkout / "data/test/0/images.npy")[:64]
    table = model.predict(images)
    assert list(table["class"]) == Predictions.read(predictions_path("cnn-0")).frame()["predicted"][:64].tolist()
    reported = softmax(np.load(logits_path("cnn-0"))[:64].astype(float), axis=1)
    assert table.filter(like="p(").to_numpy() == pytest.approx(reported, abs=2e-5)
    assert model.metadata.saved_input_example_info
    stored = [path.suffix for path in (checkout / "mlartifacts").rglob("*") if path.is_file()]
    assert ".pkl" not in stored


def test_the_best_model_by_validation_is_the_champion(store: mlflow.MlflowClient, checkout: Path) -> None:
    evaluations = [json.loads((checkout / f"reports/evaluations/{name}-0.json").read_text()) for name in MODELS]
    best = max(each["selected"]["val_macro_f1"] for each in evaluations)
    champion = store.get_model_version_by_alias("digits", "champion")
    assert float(champion.tags["val_macro_f1"]) == best
    assert champion.tags["versus.data"] == json.loads((checkout / "data/fit/0/info.json").read_text())["digest"]
    assert {path.name for path in (checkout / "reports/cards").iterdir()} == {f"{name}.md" for name in MODELS}


def test_artifacts_lie_at_the_root_of_the_checkout(checkout: Path) -> None:
    assert (checkout / "mlartifacts/digits").is_dir()
    assert not (checkout / "mlruns").exists()


# Rerunning


def test_the_same_seed_gives_the_same_bytes(checkout: Path) -> None:
    before = contents(checkout / "models/hybrid-0"), contents(checkout / "reports/histories")
    by_itself = {"VERSUS_WARM": ""}  # and no copy of a process with the libraries imported, as all others here
    command = ("dvc", "repro", "--single-item", "--force", "--no-commit", "train@hybrid-0")
    repo.call(checkout, *command, **by_itself)
    after = contents(checkout / "models/hybrid-0"), contents(checkout / "reports/histories")
    for old, new in zip(before, after, strict=True):
        assert {k: v for k, v in old.items() if k != "run.json"} == {k: v for k, v in new.items() if k != "run.json"}
    assert before[0]["run.json"] != after[0]["run.json"], "it did train"
    restore(checkout)


def test_an_experiment_reruns_what_it_changes_and_setting_it_back_trains_nothing(checkout: Path) -> None:
    output = repo.call(checkout, "dvc", "exp", "run", "--name", "shallow", "-S", "models.hybrid.depth=1")
    trained = ["check", "train@hybrid-0", "evaluate@hybrid-0", "predictions"]
    assert repo.ran(output) == [*trained, "explain", "labels", "latency", "report"]
    config = json.loads((checkout / "reports/evaluations/hybrid-0.json").read_text())["config"]
    assert config["model"]["depth"] == 1
    looked = looks.merged(looks.read(checkout / ".versus/looks.jsonl"))
    assert [look.experiment for look in looked if look.model == "hybrid"] == ["", "shallow"]

    output = repo.call(checkout, "dvc", "exp", "run", "-S", "models.hybrid.depth=2")
    assert not [stage for stage in repo.ran(output) if stage.startswith(("train", "evaluate"))]
    assert "'train@hybrid-0' is cached" in output
    assert looks.merged(looks.read(checkout / ".versus/looks.jsonl")) == looked, "nothing was scored"
    shown = repo.call(checkout, "dvc", "exp", "show", "--csv")
    assert "shallow" in shown
    restore(checkout)


def test_an_experiment_is_found_in_mlflow_by_its_name(store: mlflow.MlflowClient) -> None:
    found = repo.runs(store, "tags.`dvc.experiment` = 'shallow'")
    assert {run.data.tags["versus.stage"] for run in found} == {
        "latency",
        "train",
        "evaluate",
        "explain",
        "labels",
        "report",
    }
    assert {run.info.run_name for run in found} == {
        "hybrid-0 (shallow)",
        "hybrid-0 test (shallow)",
        "explain (shallow)",
        "labels (shallow)",
        "latency (shallow)",
        "report (shallow)",
    }
    assert {run.data.tags["dvc.changes"] for run in found} == {"models.hybrid.depth: 2 -> 1"}


def test_a_result_from_the_cache_gets_a_parent_where_the_store_has_none(checkout: Path) -> None:
    """As on another machine, whose store never saw the training."""
    output = repo.call(
        checkout,
        *("dvc", "repro", "--single-item", "--force", "evaluate@cnn-0"),
        MLFLOW_TRACKING_URI=f"sqlite:///{checkout / 'other.db'}",
    )
    assert repo.ran(output) == ["evaluate@cnn-0"]
    found = repo.runs(mlflow.MlflowClient(f"sqlite:///{checkout / 'other.db'}"))
    assert {run.info.run_name: run.info.status for run in found} == {"cnn-0": "FINISHED", "cnn-0 test": "FINISHED"}
    (parent,) = (run for run in found if run.info.run_name == "cnn-0")
    assert parent.data.tags["versus.from_cache"] == "true"
    restore(checkout)


def test_results_travel_through_a_remote(checkout: Path, tmp_path: Path) -> None:
    """As the README says: push here, pull in another clone, and nothing is trained there."""
    repo.call(checkout, "dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    assert repo.ran(repo.call(checkout, "dvc", "repro")) in ([], ["report"]), "which tells of experiments since"
    repo.commit(checkout)
    repo.call(checkout, "dvc", "push", "--run-cache")
    repo.call(tmp_path, "git", "clone", "--quiet", str(checkout), "clone")
    repo.call(tmp_path / "clone", "dvc", "pull", "--run-cache")
    assert contents(tmp_path / "clone/models") == contents(checkout / "models")
    assert repo.ran(repo.call(tmp_path / "clone", "dvc", "repro")) == []


# The techniques


def test_techniques_and_normalisation_train_again_on_the_data_that_are_there(checkout: Path) -> None:
    """What such a training leaves is looked at in tests/stages/test_train.py."""
    original = (checkout / "params.yaml").read_text()
    model = {"family": "tiny", "layers": ["conv 8", "pool"], "augment": {"cutout": 4}, "train": {"sam": 0.05}}
    repo.change(checkout, {"models.cnn": model, "dataset.normalise": "dataset"})
    output = repo.call(checkout, "dvc", "repro", "--dry", "evaluate@cnn-0")
    assert repo.ran(output) == ["check", "train@cnn-0"]
    assert all(f"Stage '{stage}' didn't change" in output for stage in ("fetch", "split"))
    (checkout / "params.yaml").write_text(original)


# Faults


def test_a_mistyped_key_stops_before_any_work_and_loses_nothing(checkout: Path) -> None:
    before = contents(checkout / "reports")
    original = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(original.replace("  epochs: 2", "  epochs: 2\n  learning_rate: 1.0"))
    output = repo.call(checkout, "dvc", "repro", fails=True)
    assert repo.ran(output) == ["check"]
    assert "versus: params.yaml: train.learning_rate: unknown key; choose from device, precision, epochs" in output
    assert "Traceback" not in output
    (checkout / "params.yaml").write_text(original)
    assert contents(checkout / "reports") == before
    assert repo.ran(repo.call(checkout, "dvc", "repro")) == []


def test_a_loss_that_is_not_finite_ends_training_with_epoch_and_step_and_no_outputs(checkout: Path) -> None:
    repo.change(checkout, {"models.cnn.train": {"lr": 1e30, "clip_norm": None, "warmup_epochs": 0}})
    output = repo.call(checkout, "dvc", "repro", "train@cnn-0", fails=True)
    assert "versus: the loss is nan at epoch" in output
    assert "Traceback" not in output
    assert not (checkout / "models/cnn-0").exists()
    assert not list(checkout.rglob("*.part"))
    store = mlflow.MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    assert repo.runs(store, "attributes.status = 'FAILED'")[0].info.run_name == "cnn-0"
    restore(checkout)
