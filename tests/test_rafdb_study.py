"""A study in a folder of its own, on the data that its owners send: the real DVC, the real MLflow store."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from pipeline.images import packed
from pipeline.records import looks
from pipeline.stages import preview
from pipeline.tracking import runs
from tests import repo, trees
from tests.small_study import Untracked


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which nothing has run."""
    return repo.copy(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def rafdb(checkout: Path) -> Path:
    """The study rafdb after `dvc repro` on a generated tree: one of its networks, made small, and small images."""
    study = checkout / "studies/rafdb"
    trees.rafdb_official(checkout / "sent/RAF-DB", train=12, test=3, side=40)
    settings = trees.YAML(typ="safe").load((study / "params.yaml").read_text())
    hybrid = {key.partition("hybrid.")[2]: value for key, value in repo.SMALL.items() if "hybrid." in key}
    trees.put_settings(settings["models"]["hybrid"], {**hybrid, "pretrained": False, "feature_level": 2})
    protocol = {key: value for key, value in repo.SMALL.items() if not key.startswith("models.")}
    models = {"models": {"hybrid": settings["models"]["hybrid"]}, "train.precision": "fp32"}
    repo.change(study, {**protocol, **models, "dataset.source": "../../sent/RAF-DB", "dataset.attributes": "source"})
    repo.call(study, "dvc", "repro")
    repo.call(checkout, "git", "add", "--all", "--", "studies")
    repo.call(checkout, "git", "commit", "--quiet", "--message", "Run rafdb")
    return study


def test_rafdb_runs_from_the_layout_that_its_owners_send(rafdb: Path) -> None:
    metrics = json.loads((rafdb / "reports/metrics.json").read_text())
    assert metrics["study"] == "rafdb"
    assert [model["images"] for model in metrics["models"].values()] == [21]
    data = json.loads((rafdb / "reports/data.json").read_text())
    assert [row["class"] for row in data["classes"]] == list(trees.RAFDB)
    assert data["found"]["train"] + data["found"]["val"] == 84
    assert '<section id="subgroups">' in (rafdb / "reports/report.html").read_text()


def test_a_second_repro_in_a_study_does_nothing_whatever_python_left_beside_the_code(
    rafdb: Path, checkout: Path
) -> None:
    trees.put(checkout / "pipeline/augment/__pycache__/other.cpython-399.pyc", b"of another Python")
    assert repo.ran(repo.call(rafdb, "dvc", "repro")) == []


def test_faces_that_may_not_be_passed_on_stand_in_no_picture(rafdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of augmentation says that it shows test cards, and has the same bytes whatever the faces are."""
    monkeypatch.chdir(rafdb)
    assert json.loads(Path("data/fit/0/info.json").read_text())["shareable"] is False
    drawn, said, read = Path("reports/augmentation.png").read_bytes(), [], packed.read
    draw = preview.augmentation_figure

    def blackened(*place: Any) -> packed.Images:
        images = read(*place)
        return dataclasses.replace(images, pixels=torch.zeros_like(images.pixels))

    monkeypatch.setattr(packed, "read", blackened)
    monkeypatch.setattr(preview, "augmentation_figure", lambda rows, first: said.append(first) or draw(rows, first))
    monkeypatch.setattr(runs, "data_run", lambda *_: contextlib.nullcontext(Untracked()))
    preview.main()
    assert said == ["test card"]
    assert Path("reports/augmentation.png").read_bytes() == drawn


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
    source = checkout / "pipeline/stages/evaluate.py"
    original = source.read_text()
    written = "logits_sha256=sha256(logits_path(name))).write(partial)\n"
    assert written in original
    marked = """partial.write_text(partial.read_text().replace("{", '{"queued": true,', 1))\n"""
    source.write_text(original.replace(written, f"{written}        {marked}"))
    repo.call(
        rafdb, "dvc", "exp", "run", "--queue", "--name", "queued", "-S", "models.hybrid.depth=1", "evaluate@hybrid-0"
    )
    source.write_text(original)
    repo.call(rafdb, "dvc", "exp", "run", "--run-all")
    assert "queued" not in (rafdb / "reports/evaluations/hybrid-0.json").read_text()
    repo.call(rafdb, "dvc", "exp", "apply", "queued")
    evaluation = json.loads((rafdb / "reports/evaluations/hybrid-0.json").read_text())
    assert evaluation["queued"] is True
    assert evaluation["config"]["model"]["depth"] == 1
    store = mlflow.MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    found = repo.runs(store, "tags.`dvc.experiment` = 'queued'", study="rafdb")
    assert {run.data.tags["versus.stage"] for run in found} == {"train", "evaluate"}
    looked = [(look.study, look.model) for look in looks.read(checkout / ".versus/looks.jsonl") if look.experiment]
    assert looked == [("rafdb", "hybrid")], "the copy's look is known here"
