"""A study as a user runs it: the real DVC, the real MLflow store, the repository's own files, networks of seconds."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

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


def runs(store: mlflow.MlflowClient, query: str = "", study: str = "digits") -> list[Any]:
    experiment = store.get_experiment_by_name(study)
    assert experiment is not None
    return list(store.search_runs([experiment.experiment_id], query))


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
    assert "up to date" in output


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
        predictions = pd.read_csv(checkout / f"reports/predictions/{name}-0.csv")
        assert model["images"] == len(predictions) == 360
        assert model["accuracy"]["mean"] == pytest.approx((predictions.actual == predictions.predicted).mean())
        assert model["accuracy"]["n"] == 1


def test_predictions_are_probabilities_whose_largest_is_the_prediction(checkout: Path) -> None:
    table = pd.read_csv(checkout / "reports/predictions/cnn-0.csv", dtype={"actual": str, "predicted": str})
    probabilities = table.filter(like="p(").to_numpy()
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-4)
    assert [f"p({name})" for name in table.predicted] == list(table.filter(like="p(").columns[probabilities.argmax(1)])


def test_test_images_are_no_dependency_of_training(checkout: Path) -> None:
    """Nothing that train reads changes with a test image: DVC itself keeps the test set locked."""
    lock = trees.YAML(typ="safe").load((checkout / "dvc.lock").read_text())
    for name, stage in lock["stages"].items():
        paths = [entry["path"] for entry in stage.get("deps", [])]
        if name.startswith("train@"):
            assert "data/fit" in paths
            assert not [path for path in paths if path.startswith(("data/test", "data/raw"))]


def test_what_belongs_to_git_is_left_to_git_and_the_rest_to_dvc(checkout: Path) -> None:
    tracked = repo.call(checkout, "git", "ls-files").splitlines()
    assert {"dvc.lock", "reports/metrics.json", "reports/report.html", "reports/predictions/vit-0.csv"} <= set(tracked)
    assert not [path for path in tracked if path.endswith((".npy", ".bin", ".safetensors", ".db"))]


# MLflow


def test_runs_are_one_for_data_one_for_each_training_with_its_evaluation_one_each_for_explanations_and_report(
    store: mlflow.MlflowClient,
) -> None:
    found = [(run.info.run_name, run.data.tags["versus.stage"], run.info.status) for run in runs(store)]
    wanted = [("data", "fetch"), ("explain", "explain"), ("latency", "latency"), ("report", "report")]
    wanted += [(f"{name}-0", "train") for name in MODELS] + [(f"{name}-0 test", "evaluate") for name in MODELS]
    assert sorted(found) == sorted((*entry, "FINISHED") for entry in wanted)


def test_an_evaluation_is_the_child_of_its_training(store: mlflow.MlflowClient, checkout: Path) -> None:
    names = {run.info.run_id: run.info.run_name for run in runs(store)}
    for run in runs(store, "tags.`versus.stage` = 'evaluate'"):
        name = run.info.run_name.removesuffix(" test")
        assert names[run.data.tags["mlflow.parentRunId"]] == name
        evaluation = json.loads((checkout / f"reports/evaluations/{name}.json").read_text())
        for score, value in evaluation["scores"].items():
            assert run.data.metrics[f"test_{score}"] == pytest.approx(value)
        paths = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
        assert {"confusion_matrix.png", f"{name}.json", f"{name}.csv"} <= paths


def test_a_training_has_its_resolved_parameters_its_data_and_a_point_per_epoch(
    store: mlflow.MlflowClient, checkout: Path
) -> None:
    (run,) = runs(store, "attributes.run_name = 'cnn-0'")
    history = pd.read_csv(checkout / "reports/histories/cnn-0.csv")
    for column in ("train_loss", "val_macro_f1", "lr"):
        points = store.get_metric_history(run.info.run_id, column)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx(list(history[column]))
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["network.backbone"] == "resnet18"
    (used,) = run.inputs.dataset_inputs
    digest = json.loads((checkout / "data/fit/info.json").read_text())["digest"]
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
    (run,) = runs(store, "attributes.run_name = 'cnn-0'")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/cnn-0")
    images = np.load(checkout / "data/test/images.npy")[:64]
    table = model.predict(images)
    reported = pd.read_csv("reports/predictions/cnn-0.csv", dtype={"predicted": str})[:64]
    assert list(table["class"]) == list(reported.predicted)
    assert table.filter(like="p(").to_numpy() == pytest.approx(reported.filter(like="p(").to_numpy(), abs=2e-5)
    assert model.metadata.saved_input_example_info
    stored = [path.suffix for path in (checkout / "mlartifacts").rglob("*") if path.is_file()]
    assert ".pkl" not in stored


def test_the_best_model_by_validation_is_the_champion(store: mlflow.MlflowClient, checkout: Path) -> None:
    evaluations = [json.loads((checkout / f"reports/evaluations/{name}-0.json").read_text()) for name in MODELS]
    best = max(each["selected"]["val_macro_f1"] for each in evaluations)
    champion = store.get_model_version_by_alias("digits", "champion")
    assert float(champion.tags["val_macro_f1"]) == best
    assert champion.tags["versus.data"] == json.loads((checkout / "data/fit/info.json").read_text())["digest"]
    assert {path.name for path in (checkout / "reports/cards").iterdir()} == {f"{name}.md" for name in MODELS}


def test_artifacts_lie_at_the_root_of_the_checkout(checkout: Path) -> None:
    assert (checkout / "mlartifacts/digits").is_dir()
    assert not (checkout / "mlruns").exists()


# Rerunning


def test_the_same_seed_gives_the_same_bytes(checkout: Path) -> None:
    before = contents(checkout / "models/hybrid-0"), contents(checkout / "reports/histories")
    repo.call(checkout, "dvc", "repro", "--single-item", "--force", "train@hybrid-0")
    after = contents(checkout / "models/hybrid-0"), contents(checkout / "reports/histories")
    for old, new in zip(before, after, strict=True):
        assert {k: v for k, v in old.items() if k != "run.json"} == {k: v for k, v in new.items() if k != "run.json"}
    repo.call(checkout, "dvc", "repro")
    repo.commit(checkout)


def test_an_experiment_reruns_what_it_changes_and_setting_it_back_trains_nothing(checkout: Path) -> None:
    output = repo.call(checkout, "dvc", "exp", "run", "--name", "shallow", "-S", "models.hybrid.depth=1")
    assert repo.ran(output) == ["check", "latency", "train@hybrid-0", "evaluate@hybrid-0", "explain", "report"]
    config = json.loads((checkout / "reports/evaluations/hybrid-0.json").read_text())["config"]
    assert config["model"]["depth"] == 1

    output = repo.call(checkout, "dvc", "exp", "run", "-S", "models.hybrid.depth=2")
    assert not [stage for stage in repo.ran(output) if stage.startswith(("train", "evaluate"))]
    assert "'train@hybrid-0' is cached" in output
    shown = repo.call(checkout, "dvc", "exp", "show", "--csv")
    assert "shallow" in shown
    restore(checkout)


def test_an_experiment_is_found_in_mlflow_by_its_name(store: mlflow.MlflowClient) -> None:
    found = runs(store, "tags.`dvc.experiment` = 'shallow'")
    assert {run.data.tags["versus.stage"] for run in found} == {"latency", "train", "evaluate", "explain", "report"}
    assert {run.info.run_name for run in found} == {
        "hybrid-0 (shallow)",
        "hybrid-0 test (shallow)",
        "explain (shallow)",
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
    found = runs(mlflow.MlflowClient(f"sqlite:///{checkout / 'other.db'}"))
    assert {run.info.run_name: run.info.status for run in found} == {"cnn-0": "FINISHED", "cnn-0 test": "FINISHED"}
    (parent,) = (run for run in found if run.info.run_name == "cnn-0")
    assert parent.data.tags["versus.from_cache"] == "true"
    restore(checkout)


def test_results_travel_through_a_remote(checkout: Path, tmp_path: Path) -> None:
    """As the README says: push here, pull in another clone, and nothing is trained there."""
    repo.call(checkout, "dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    repo.commit(checkout)
    repo.call(checkout, "dvc", "push", "--run-cache")
    repo.call(tmp_path, "git", "clone", "--quiet", str(checkout), "clone")
    repo.call(tmp_path / "clone", "dvc", "pull", "--run-cache")
    assert contents(tmp_path / "clone/models") == contents(checkout / "models")
    assert repo.ran(repo.call(tmp_path / "clone", "dvc", "repro")) == []


# The techniques


def test_a_tiny_network_with_every_technique_goes_through_all_stages(checkout: Path) -> None:
    layers = ["conv 8", "pool", "dw 8 skip", "transition 6", "pool", "conv 12"]
    switches = {"in_channels": 1, "blurpool": True, "squeeze_excite": 0.25}
    augment = {"cutout": 4, "mixup": 0.2}
    train = {"schedule": "onecycle", "sam": 0.05, "label_smoothing": 0.1, "select": "average"}
    model = {"family": "tiny", "layers": layers, **switches, "augment": augment, "train": train}
    repo.change(checkout, {"models.cnn": model, "dataset.normalise": "dataset"})
    output = repo.call(checkout, "dvc", "repro", "evaluate@cnn-0")
    assert repo.ran(output) == ["check", "train@cnn-0", "evaluate@cnn-0"]
    found = json.loads((checkout / "reports/evaluations/cnn-0.json").read_text())
    assert found["overrides"] == {**augment, **train}
    assert found["config"]["model"]["layers"] == layers
    assert found["selected"]["epoch"] == 2
    trained = json.loads((checkout / "models/cnn-0/config.json").read_text())
    pixels = np.load(checkout / "data/fit/train_images.npy") / 255
    assert trained["normalise"]["mean"] == pytest.approx([pixels.mean()], abs=1e-6)
    restore(checkout)


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
    assert runs(store, "attributes.status = 'FAILED'")[0].info.run_name == "cnn-0"
    restore(checkout)


# The studies


@pytest.fixture(scope="module")
def rafdb(checkout: Path) -> Path:
    """The study rafdb after `dvc repro` on a generated tree: image size and networks are all that is made small."""
    study = checkout / "studies/rafdb"
    trees.rafdb_official(checkout / "sent/RAF-DB", train=12, test=3, side=40)
    settings = {key: value for key, value in repo.SMALL.items() if not key.endswith("args.channels")}
    for name in MODELS:
        settings[f"models.{name}.pretrained"] = False
    for name in ("cnn", "hybrid"):
        settings[f"models.{name}.args"] = {"channels": [8, 8, 16, 16]}
    small_maps = {"models.hybrid.feature_level": 2, "train.precision": "fp32"}
    repo.change(study, {**settings, **small_maps, "dataset.source": "../../sent/RAF-DB"})
    repo.call(study, "dvc", "repro")
    repo.call(checkout, "git", "add", "--all", "--", "studies")
    repo.call(checkout, "git", "commit", "--quiet", "--message", "Run rafdb")
    return study


def test_rafdb_runs_from_the_layout_that_its_owners_send(rafdb: Path) -> None:
    metrics = json.loads((rafdb / "reports/metrics.json").read_text())
    assert metrics["study"] == "rafdb"
    assert [model["images"] for model in metrics["models"].values()] == [21, 21, 21]
    data = json.loads((rafdb / "reports/data.json").read_text())
    assert [row["class"] for row in data["classes"]] == list(trees.RAFDB)
    assert data["found"]["train"] + data["found"]["val"] == 84


def test_a_second_repro_in_a_study_does_nothing_whatever_python_left_beside_the_code(
    rafdb: Path, checkout: Path
) -> None:
    trees.put(checkout / "pipeline/augment/__pycache__/other.cpython-399.pyc", b"of another Python")
    assert repo.ran(repo.call(rafdb, "dvc", "repro")) == []


def test_faces_that_may_not_be_passed_on_stand_in_no_picture(rafdb: Path) -> None:
    info = json.loads((rafdb / "data/fit/info.json").read_text())
    assert info["shareable"] is False
    assert "test card" in (rafdb / "reports/augmentation.svg").read_text()
    assert "as it is" not in (rafdb / "reports/augmentation.svg").read_text()


def test_a_study_shares_the_checkouts_store_and_cache(rafdb: Path, checkout: Path) -> None:
    assert (checkout / "mlartifacts/rafdb").is_dir()
    assert not (rafdb / "mlflow.db").exists()
    assert not (rafdb / ".dvc/cache").exists()
    digest = trees.YAML(typ="safe").load((rafdb / "dvc.lock").read_text())["stages"]["fetch"]["outs"][0]["md5"]
    assert (checkout / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).is_file()


def test_a_queued_experiment_of_a_study_runs_the_code_and_settings_it_was_queued_with(
    rafdb: Path, checkout: Path
) -> None:
    """DVC works in a copy of the checkout; the code of the queued state runs, and its runs land in the user's store."""
    source = checkout / "pipeline/evaluate.py"
    original = source.read_text()
    source.write_text(original.replace('"images": len(images),', '"images": len(images), "queued": True,'))
    repo.call(rafdb, "dvc", "exp", "run", "--queue", "--name", "queued", "-S", "models.hybrid.depth=1")
    source.write_text(original)
    repo.call(rafdb, "dvc", "exp", "run", "--run-all")
    assert "queued" not in (rafdb / "reports/evaluations/hybrid-0.json").read_text()
    repo.call(rafdb, "dvc", "exp", "apply", "queued")
    evaluation = json.loads((rafdb / "reports/evaluations/hybrid-0.json").read_text())
    assert evaluation["queued"] is True
    assert evaluation["config"]["model"]["depth"] == 1
    store = mlflow.MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    found = runs(store, "tags.`dvc.experiment` = 'queued'", study="rafdb")
    assert {run.data.tags["versus.stage"] for run in found} == {"latency", "train", "evaluate", "explain", "report"}
