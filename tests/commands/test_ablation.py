"""Experiments are compared with the commit they started from, setting by setting; the numbers are theirs."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.base.errors import StageError
from pipeline.commands import ablation
from pipeline.report import experiments
from pipeline.scoring.ablation import Experiment, _mean, crossings, score, touches, tried, validation
from pipeline.scoring.ablation import axes as ablation_axes
from tests import repo, trees
from tests.stages.test_report import Page

BASE = {"train.lr": 0.1, "models.vit.depth": 2, "models.vit.dim": 8, "models.cnn.width": 4}


def entry(rev: str, cnn: float, vit: float, **changed: Any) -> dict[str, Any]:
    """What DVC shows of one commit or experiment."""
    content: dict[str, Any] = {}
    for key, value in {**BASE, **{name.replace("__", "."): value for name, value in changed.items()}}.items():
        *above, last = key.split(".")
        part = content
        for name in above:
            part = part.setdefault(name, {})
        part[last] = value
    models = {
        name: {
            "macro_f1": {"mean": test, "low": test - 0.1, "high": test + 0.1, "n": 3},
            "val_macro_f1": {"mean": test + 0.02, "low": test, "high": test + 0.04, "n": 3},
        }
        for name, test in (("cnn", cnn), ("vit", vit))
    }
    data = {
        "params": {"params.yaml": {"data": content}},
        "metrics": {"reports/metrics.json": {"data": {"models": models}}},
    }
    return {"rev": rev, "name": rev, "data": data}


def shown(*experiments: dict[str, Any]) -> list[dict[str, Any]]:
    queued = {"revs": [{"rev": "q", "name": "q", "data": None}], "name": "q"}
    listed = [{"revs": [each], "name": each["name"]} for each in experiments]
    return [entry("workspace", 0, 0), {**entry("main", 0.8, 0.6), "experiments": [*listed, queued]}]


GRID = [
    entry("deep", 0.8, 0.7, models__vit__depth=4),
    entry("wide", 0.8, 0.64, models__vit__dim=16),
    entry("both", 0.8, 0.78, models__vit__depth=4, models__vit__dim=16),
]


def test_an_axis_has_the_commits_own_value_and_the_command_of_each_point() -> None:
    base, finished, failed = experiments.read(shown(*GRID, entry("slow", 0.5, 0.4, train__lr=0.01)))
    assert failed == 1
    axes = ablation_axes(base, finished)
    depth = [(point.value, point.model, point.test.mean, point.command) for point in axes["models.vit.depth"]]
    assert depth == [
        (2, "vit", 0.6, "dvc repro"),  # the other model's score cannot change
        (4, "vit", 0.7, "dvc exp run -S models.vit.depth=4"),
    ]
    shared = [(point.value, point.model, point.test.mean, len(point.experiments)) for point in axes["train.lr"]]
    assert shared == [(0.01, "cnn", 0.5, 1), (0.1, "cnn", 0.8, 0), (0.01, "vit", 0.4, 1), (0.1, "vit", 0.6, 0)]
    assert set(axes) == {"models.vit.depth", "models.vit.dim", "train.lr"}


def test_a_model_is_listed_under_settings_that_can_change_it_and_each_setting_once() -> None:
    """cnn sees no depth of vit's, and the shared setting of a grid with it in two experiments, that count once."""
    crossed = [
        entry("deep", 0.8, 0.7, models__vit__depth=4),
        entry("slow", 0.5, 0.4, train__lr=0.01),
        entry("slow too", 0.5, 0.45, train__lr=0.01, models__vit__depth=4),
        entry("both", 0.9, 0.75, models__cnn__width=8, models__vit__depth=4.0),
        entry("as it is", 0.8, 0.6, evaluate__onnx=True),
    ]
    base, finished, _ = experiments.read(shown(*crossed))
    found = [(each.model, dict(each.changed), each.names) for each in tried(base, finished)]
    assert found == [
        ("cnn", {"models.cnn.width": 8}, ("both",)),
        ("cnn", {"train.lr": 0.01}, ("slow", "slow too")),
        ("vit", {"models.vit.depth": 4}, ("deep", "both")),
        ("vit", {"models.vit.depth": 4, "train.lr": 0.01}, ("slow too",)),
        ("vit", {"train.lr": 0.01}, ("slow",)),
    ]
    (grid,) = crossings(base, finished)
    assert {each.model for each in grid.effects} == {"vit"}
    assert (grid.found, grid.possible) == (4, 4)


def test_a_shared_setting_is_none_of_a_model_that_sets_it_for_itself() -> None:
    settings = {"models.vit.train.lr": 0.5, "models.vit.augment.light.flip": 1, "models.vit.family": "timm"}
    assert not touches("train.lr", "vit", settings)
    assert not touches("augment.light.shift", "vit", settings)  # the whole of light is its own
    assert touches("train.epochs", "vit", settings)
    for key in ("verdict.margin", "corruptions.replicates", "evaluate.onnx", "launch.on"):
        assert not touches(key, "vit", settings), "no score depends on it, so it is nothing that was tried"
    assert touches("train.lr", "cnn", settings)
    assert touches("tune.families.timm.lr", "vit", settings)
    assert not touches("tune.families.timm.lr", "cnn", settings)


def test_a_setting_at_its_default_is_no_change() -> None:
    base, finished, _ = experiments.read(shown(entry("again", 0.8, 0.7, train__compile="none")))
    assert not finished[0].changed
    assert not base.changed


def test_main_effects_are_means_over_the_other_settings_of_the_grid() -> None:
    base, finished, _ = experiments.read(shown(*GRID))
    (grid,) = crossings(base, finished)
    assert (grid.found, grid.possible) == (4, 4)
    effects = {(each.key, each.value): (each.test, each.points) for each in grid.effects}
    assert effects["models.vit.depth", 2] == (pytest.approx((0.6 + 0.64) / 2), 2)
    assert effects["models.vit.depth", 4] == (pytest.approx((0.7 + 0.78) / 2), 2)
    assert effects["models.vit.dim", 16] == (pytest.approx((0.64 + 0.78) / 2), 2)
    (missing,) = crossings(base, [each for each in finished if each.name != "wide"])
    assert (missing.found, missing.possible) == (3, 4)


def test_what_has_no_validation_score_is_left_out_of_its_means() -> None:
    """Trained on the validation images too: a dash where no point has a score, the others' mean where some have."""
    assert math.isnan(score(validation({"macro_f1": {"mean": 0.5, "n": 1}})).mean)
    assert _mean([0.5, math.nan, 0.7]) == pytest.approx(0.6)
    assert math.isnan(_mean([math.nan]))


def test_a_table_a_figure_and_a_page_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "show", lambda: shown(*GRID))
    ablation.run(Namespace())
    folder = tmp_path / "reports/ablation"
    rows = pd.read_csv(folder / "models-vit-depth.csv")
    assert rows["test_macro_f1"].tolist() == [0.6, 0.7]
    assert rows["val_macro_f1_low"].tolist() == pytest.approx([0.6, 0.7])
    names = {"models-vit-depth", "models-vit-dim", "models-vit-depth-models-vit-dim"}
    tables = {f"{name}.{end}" for name in (*names, "tried") for end in ("csv", "md", "tex")}
    assert {path.name for path in folder.iterdir()} == tables | {f"{name}.svg" for name in names} | {"ablation.html"}
    tried = pd.read_csv(folder / "tried.csv")
    assert tried["test_value"].tolist() == pytest.approx([0.1, 0.18, 0.04])
    assert tried["test_low"].isna().all()  # git has no such commit here
    page = Page((folder / "ablation.html").read_text())
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.open
    assert "dvc exp run -S models.vit.depth=4" in page.text
    assert "1 without a result" in page.text


def test_a_commit_without_results_or_experiments_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "show", lambda: [{"rev": "main", "data": None}])
    with pytest.raises(StageError, match=r"run `dvc repro` and commit"):
        ablation.run(Namespace())
    monkeypatch.setattr(experiments, "show", lambda: shown())
    with pytest.raises(StageError, match=r"dvc exp run --queue"):
        ablation.run(Namespace())


def test_what_dvc_shows_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real DVC, with a stage that takes its score from its settings."""
    scores = '"macro_f1": {"mean": 0.${models.vit.depth}, "n": 1}, "val_macro_f1": {"mean": 0.5, "n": 1}'
    stage = {
        "cmd": f'mkdir -p reports && echo \'{{"models": {{"vit": {{{scores}}}}}}}\' > reports/metrics.json',
        "params": ["models"],
        "metrics": [{"reports/metrics.json": {"cache": False}}],
    }
    trees.put(tmp_path / "params.yaml", b"models: {vit: {depth: 2}}\n")
    trees.put(tmp_path / "dvc.yaml", json.dumps({"stages": {"report": stage}}).encode())
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.call(tmp_path, "dvc", "init", "--quiet")
    repo.call(tmp_path, "dvc", "repro", "--quiet")
    repo.commit(tmp_path)
    repo.call(tmp_path, "dvc", "exp", "run", "--quiet", "--name", "deep", "--set-param", "models.vit.depth=4")
    monkeypatch.chdir(tmp_path)
    base, finished, failed = experiments.read(experiments.show())
    assert (base.changed, failed) == ({"models.vit.depth": 2}, 0)
    assert [(each.name, each.changed) for each in finished] == [("deep", {"models.vit.depth": 4})]
    assert '"mean": 0.4' in repo.call(tmp_path, "git", "show", f"{finished[0].revision}:reports/metrics.json")
    values = [(point.value, point.test.mean) for point in ablation_axes(base, finished)["models.vit.depth"]]
    assert values == [(2, 0.2), (4, 0.4)]


def test_outside_a_study_the_fault_is_dvcs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="exp show"):
        experiments.show()


def test_values_are_written_as_dvc_takes_them() -> None:
    experiment = Experiment("x", {"a.b": None, "a.c": True, "a.d": "two words"}, {})
    assert experiment.command == "dvc exp run -S a.b=null -S a.c=true -S 'a.d=two words'"
