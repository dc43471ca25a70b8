"""What is left of models and replicates that params.yaml names no more is told apart, named, and removed on request."""

import json
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.commands import models
from pipeline.commands.prune import prune
from pipeline.params.read import load_params
from pipeline.records.evaluation import Evaluation
from pipeline.records.tuning import Tuning
from pipeline.report import results
from pipeline.stages import report
from pipeline.tracking import store
from pipeline.trained.leftovers import leftovers
from tests import fake_study, repo, small_study, trees
from tests.stages.test_report import _tracks_into_a_list_and_draws_where_it_is_looked_at, settings  # noqa: F401

KEPT = {"cnn-0": (0.7, 0.9), "cnn-1": (0.9, 0.8)}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study after `old` was removed and replicate 1 too; what looks like a leftover and is none is there, too."""
    small_study.scores(tmp_path, {**KEPT, "old-0": (0.99, 0.99)})
    trees.put(tmp_path / "data/logits/old-0.npy", b"")
    for name in ("histories/old-0.csv", "histories/cnn-0.csv", "evaluations/notes.json"):
        trees.put(tmp_path / "reports" / name, b"")
    for name in ("old-0.parquet", "cnn-0.parquet"):
        trees.put(tmp_path / "data/predictions" / name, b"")
        trees.put(tmp_path / "reports/predictions" / name, b"")
    trees.put(tmp_path / "models/resnet-50/weights.safetensors", b"the user's own")
    trees.put(tmp_path / "models/.cnn-0.1.part", b"")
    trees.put(tmp_path / "models/.gitignore", b"/cnn-0")
    (tmp_path / ".dvc").mkdir()
    small_study.write(tmp_path, {"replicates": [0]}, {"cnn": small_study.MODELS["tiny"]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "GIVEN", "")
    return tmp_path


LEFT = {
    "cnn-1": ["models/cnn-1", "reports/evaluations/cnn-1.json"],
    "old-0": [
        "models/old-0",
        "data/logits/old-0.npy",
        "data/predictions/old-0.parquet",
        "reports/evaluations/old-0.json",
        "reports/histories/old-0.csv",
        "reports/predictions/old-0.parquet",
    ],
}


@pytest.mark.usefixtures("study")
def test_removed_models_and_replicates_are_told_from_the_users_own_files() -> None:
    found = leftovers(load_params())
    assert {name: list(map(str, paths)) for name, paths in found.items()} == LEFT


@pytest.mark.usefixtures("study")
def test_models_names_them_and_lists_none(capsys: pytest.CaptureFixture[str]) -> None:
    models.run(Namespace(json=False))
    said = capsys.readouterr().out
    assert "Not in params.yaml, and left out: cnn-1, old-0. `versus prune` lists their files" in said
    assert said.count("old-0") == 1
    models.run(Namespace(json=True))
    listed = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in listed["models"]] == ["cnn-0"]
    assert listed["leftovers"] == list(LEFT)
    small_study.write(Path(), {}, {"new": small_study.MODELS["tiny"]})
    with pytest.raises(StageError, match=r"no trained model in models/(.|\n)*left out: cnn-0, cnn-1, old-0"):
        models.run(Namespace(json=False))


def test_prune_lists_them_whatever_their_age_and_yes_removes_them(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.put(study / "models/resnet-101/config.json", b'{"model_type": "resnet", "depths": [3, 4, 23, 3]}')
    trees.put(study / "models/resnet-101/model.safetensors", b"another's own")
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "reports/evaluations/old-0.json", "models/old-0/run.json"], check=True)
    prune()
    said = capsys.readouterr().out
    for path in (path for paths in LEFT.values() for path in paths):
        in_git = ", in git" * (path in ("reports/evaluations/old-0.json", "models/old-0"))
        assert f"  {path}, not in params.yaml{in_git}\n" in said
    assert "what is in git by `git checkout`, what is not from DVC's cache, by `dvc repro`" in said
    assert "prune: 8 of these" in said
    assert (study / "models/old-0").exists()
    prune(yes=True)
    assert list(leftovers(load_params())) == ["resnet-101"]
    assert (study / "models/resnet-101/model.safetensors").exists(), "its config.json is of no training here"
    assert (study / "models/cnn-0/run.json").exists()
    assert (study / "models/resnet-50/weights.safetensors").exists()
    assert (study / "reports/evaluations/notes.json").exists()
    subprocess.run(["git", "checkout", "--quiet", "reports"], check=True)
    assert (study / "reports/evaluations/old-0.json").exists()


def test_prune_without_git_and_with_a_broken_params_yaml_does_what_it_can(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(study))
    prune()
    assert "models/old-0, not in params.yaml\n" in capsys.readouterr().out
    Path("params.yaml").write_text("models: [")
    prune(yes=True)
    printed = capsys.readouterr()
    assert "params.yaml: not readable as YAML" in printed.err
    assert "results are not looked through" in printed.err
    assert (study / "models/old-0").exists()


# Readers


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that reports two models of two replicates, beside what is left of a third."""
    fake_study.write(tmp_path, models=("cnn", "vit", "hybrid"), replicates=(0, 1), epochs=3)
    monkeypatch.chdir(tmp_path)
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    del content["models"]["hybrid"]
    with Path("params.yaml").open("w") as file:
        YAML().dump(content, file)
    return tmp_path


@pytest.mark.usefixtures("reported")
def test_the_report_names_them_and_its_numbers_are_those_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.put(tmp_path / "reports/cards/hybrid.md", b"of a report before")
    report.main()
    assert "Not in params.yaml, and left out: hybrid-0, hybrid-1." in capsys.readouterr().out
    numbers = Path("reports/metrics.json").read_text()
    assert not Path("reports/cards/hybrid.md").exists()
    assert "hybrid" not in Path("reports/report.html").read_text()
    for path in (path for paths in leftovers(load_params()).values() for path in paths):
        path.unlink()
    report.main()
    assert Path("reports/metrics.json").read_text() == numbers
    assert "left out" not in capsys.readouterr().out


def test_the_notebooks_tables_are_of_the_reported_trainings(reported: Path) -> None:
    report.main()
    means = json.loads((reported / "reports/metrics.json").read_text())["models"]
    scores, histories, predictions = (
        read(reported) for read in (results.scores, results.histories, results.predictions)
    )
    found = scores.groupby("model")["macro_f1"].mean().to_dict()
    assert found == pytest.approx({name: model["macro_f1"]["mean"] for name, model in means.items()})
    for table, rows in ((histories, 3), (predictions, 360)):
        counts = table.groupby(["model", "replicate"]).size()
        assert list(counts.index) == [("cnn", 0), ("cnn", 1), ("vit", 0), ("vit", 1)]
        assert set(counts) == {rows}
    assert predictions["right"].mean() == pytest.approx(scores["accuracy"].mean())
    (reported / "reports/histories/vit-1.csv").unlink()
    with pytest.raises(StageError, match=r"vit-1.csv: not found; run `dvc repro train@vit-1`"):
        results.histories(reported)


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize("content", ["[]", "{}", "null", "1"])
@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("evaluations/cnn-0.json", "evaluate@cnn-0"),
        ("data.json", "split"),
        ("doctor.json", "doctor"),
        ("latency.json", "latency"),
        ("explanations.json", "explain"),
    ],
)
def test_a_file_that_is_not_as_its_stage_leaves_it_names_the_stage(file: str, stage: str, content: str) -> None:
    (Path("reports") / file).write_text(content)
    with pytest.raises(StageError, match=rf"{file}: .*; run `dvc repro -f {stage}`"):
        report.main()


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train.epochs": 4}, "cnn-0.json: made with train.epochs 3, and params.yaml has 4"),
        ({"models.vit.dropout": 0.3}, "vit-0.json: made with model.dropout 0.0, and params.yaml has 0.3"),
        ({"models.vit.train": {"lr": 1.0}}, "vit-0.json: made with train.lr .*, and params.yaml has 1.0"),
        ({"models.vit.args": {"depth": 3}}, "vit-0.json: made with model.args .*, and params.yaml has .*depth"),
        ({"models.vit.pretrained": True}, "vit-0.json: made with model.pretrained no, and params.yaml has yes"),
        ({"augment.light.shift": 0.4}, "cnn-0.json: made with augment.light.shift .*, and params.yaml has 0.4"),
        ({"dataset.image_size": 16}, "cnn-0.json: made with dataset.image_size .*, and params.yaml has 16"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_results_of_other_settings_are_not_reported_under_those_of_params_yaml(
    change: dict[str, object], said: str
) -> None:
    settings(change)
    with pytest.raises(StageError, match=rf"reports/evaluations/{said}.*; run `dvc repro` in the study's folder"):
        report.main()
    assert not Path("reports/report.html").exists()


def test_results_from_other_images_are_not_reported(reported: Path) -> None:
    for path in reported.glob("reports/evaluations/*.json"):
        evaluation = json.loads(path.read_text())
        evaluation["config"]["dataset"]["digest"] = "3f" * 32
        path.write_text(json.dumps(evaluation))
    report.main()
    data = json.loads(Path("reports/data.json").read_text())
    data["digests"]["fit"] = "00" * 32
    Path("reports/data.json").write_text(json.dumps(data))
    with pytest.raises(StageError, match=r"cnn-0.json: made from other images than those of reports/data.json"):
        report.main()


def test_no_committed_study_is_refused(tmp_path: Path) -> None:
    """Of versions that had fewer settings, too."""
    repo.export(tmp_path, "params.yaml", "reports", "studies")
    studies = [path.parent.parent for path in tmp_path.rglob("reports/data.json")]
    assert len(studies) > 5
    for study in studies:
        content = load_params(study / "params.yaml")
        data = json.loads((study / "reports/data.json").read_text())
        own = {each["replicate"]: each["digests"]["fit"] for each in data.get("replicates", [])}
        digests = own or dict.fromkeys(content.replicates, data["digests"]["fit"])
        tuned = results.having_chosen(content, Tuning.read(study / "reports/tuning.json"))
        for name in content.models:
            paths = [study / f"reports/evaluations/{name}-{replicate}.json" for replicate in content.replicates]
            evaluations = [Evaluation.read(path) for path in paths]
            results.refuse_other_settings(tuned, evaluations, digests)
        assert not leftovers(content, study)
