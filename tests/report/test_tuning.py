"""The section on tuning: what was searched, what it cost, where the order of models changes, what tuning changed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.params.settings import Dimension
from pipeline.params.trials import drawn
from pipeline.records.diary import Machine
from pipeline.records.tuning import TrialResult, choose
from pipeline.report import page, results
from pipeline.report.sections import tuning
from pipeline.scoring.budgets import TuningCurve
from tests import fake_study, repo

MACHINE = Machine("cpu", "a processor", 1, "fp32", "3.11", "2.11", "1.0")
TRIALS = 4


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up study: cnn and vit tuned, beside the same two as they stand; the untuned ViT is hardly ever right."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_study, "QUALITY", {"cnn": 0.95, "vit": 0.95, "cnn_as_is": 0.95, "vit_as_is": 0.3})
        fake_study.write(folder, ["cnn", "vit", "cnn_as_is", "vit_as_is"], images=600)
    space = {"train.lr": {"log_uniform": [0.001, 0.1]}, "augment.flip": {"choice": [True, False]}}
    vit = json.loads((folder / "reports/evaluations/vit-0.json").read_text())["config"]["model"]
    for path in folder.glob("reports/evaluations/vit_as_is-?.json"):
        content = json.loads(path.read_text())
        content["config"]["model"] = vit
        path.write_text(json.dumps(content))
    repo.change(folder, {"models.vit_as_is": load_params(folder / "params.yaml").models["vit"].model_dump(mode="json")})
    repo.change(
        folder,
        {"tune": {"trials": list(range(TRIALS)), "models": {"cnn": {}, "vit": {}}, "finalists": [], "space": space}},
    )
    params = load_params(folder / "params.yaml")
    found = []
    for name, level in (("cnn", 0.9), ("vit", 0.5)):
        for trial in drawn(params, name):
            score = level + 0.02 * trial.number + 0.3 * (name == "vit" and trial.number == 2)
            lost = None if (name, trial.number) == ("vit", 0) else score
            found.append(
                TrialResult(name, trial.number, 1, trial.settings, "k", lost, 3, [lost] * 3, 10.0, 900, 500, MACHINE)
            )
    tuned = choose(found)
    tuned.write(folder / "reports/tuning.json")
    for name in tuned.chosen:
        for path in folder.glob(f"reports/evaluations/{name}-?.json"):
            content = json.loads(path.read_text())
            content["config"]["train"]["lr"] = tuned.best(name).settings["train.lr"]
            content["config"]["augment"]["flip"] = tuned.best(name).settings["augment.flip"]
            path.write_text(json.dumps(content))
    return folder


@pytest.fixture
def found(study: Path, monkeypatch: pytest.MonkeyPatch) -> results.Found:
    monkeypatch.chdir(study)
    return results.read(load_params())


def test_epochs_of_a_trial_that_diverged_count(found: results.Found) -> None:
    """Four trials of three epochs each, of which one came to its first alone: it has no curve."""
    kept = found.tuning.of("cnn")
    lost = dataclasses.replace(kept[0], val_macro_f1=None, curve=[], images=kept[0].images // 3)
    assert tuning.epochs_of([lost, *kept[1:]]) == 3 * (TRIALS - 1) + 1


def test_each_search_is_told_with_its_cost_and_what_it_chose(found: results.Found) -> None:
    section = tuning.section(found)
    assert section is not None
    table = section.tables[0].frame.set_index("model")
    assert table.loc["cnn", "trial"] == TRIALS - 1
    assert table.loc["vit", "trial"] == 2
    assert (table["trials"] == TRIALS).all()
    assert (table["epochs"] == 3 * TRIALS).all()
    assert (table["train_seconds"] == 10 * TRIALS).all()
    assert (table["train_flops"] == 3 * 500 * 900 * TRIALS).all()
    assert section.words["diverged"] == 1
    assert section.words["untuned"] == ["cnn_as_is", "vit_as_is"]
    assert section.words["spaces"] == [
        ("train.lr", "0.001 to 0.1, evenly by its logarithm"),
        ("augment.flip", "one of yes, no"),
    ]


def test_the_selected_score_stands_beside_what_the_same_settings_reach_anew(found: results.Found) -> None:
    section = tuning.section(found)
    assert section is not None
    row = section.tables[0].frame.set_index("model").loc["cnn"]
    anew = [each.selected.val_macro_f1 for each in found.models[0].evaluations]
    assert row["val_macro_f1_anew"] == pytest.approx(np.mean(anew))
    assert row["val_macro_f1"] == pytest.approx(0.96)
    assert "too high by the choice" in section.tables[0].caption


def test_tuned_stands_beside_untuned_and_the_verdicts_that_changed_are_counted(found: results.Found) -> None:
    twins = tuning.twins(found)
    assert [(each.tuned.name, each.untuned.name) for each in twins] == [("cnn", "cnn_as_is"), ("vit", "vit_as_is")]
    (table,) = tuning.twin_tables(found)
    gains = table.frame.set_index("tuned")["gain"]
    assert gains["vit"] > 0.5 > abs(gains["cnn"])
    (text,) = tuning.verdict_sentence(found)
    assert text.startswith(
        "Tuned, 1 of 1 verdict differs: cnn is not distinguishable from vit, untuned better (whether"
    )


def test_the_section_reads_whole_with_and_without_untuned_twins(found: results.Found, tmp_path: Path) -> None:
    section = tuning.section(found)
    assert section is not None
    section.write(tmp_path, tmp_path)
    alone = dataclasses.replace(section, tables=section.tables[:1])
    with_twins, without = (page.text(page.templates(), "tuning", each, found, tmp_path) for each in (section, alone))
    assert "Macro-F1 untuned" in with_twins
    assert "Macro-F1 untuned" not in without
    assert "What was searched" in without


def test_the_order_of_models_is_told_by_budget() -> None:
    def rising(*values: float) -> TuningCurve:
        return TuningCurve(np.array(values), np.zeros(len(values)), np.ones(len(values)))

    text = tuning.order_sentence({"cnn": rising(0.8, 0.82, 0.83), "vit": rising(0.5, 0.7, 0.9)})
    assert text.endswith("depends on the budget: after one cnn before vit; from 3 on vit before cnn")
    assert "is the same after any number of them: cnn before vit" in tuning.order_sentence(
        {"cnn": rising(0.8, 0.9), "vit": rising(0.5, 0.6)}
    )


def test_a_choice_at_the_end_of_its_range_is_pointed_out() -> None:
    rate = Dimension(log_uniform=(0.001, 0.1))
    assert tuning.near_end(rate, 0.0011) == 0.001
    assert tuning.near_end(rate, 0.01) is None
    assert tuning.near_end(rate, 0.098) == 0.1
    assert tuning.near_end(Dimension(uniform=(0.0, 1.0)), 0.0011) == 0.0
    assert tuning.near_end(Dimension(integer=(1, 4)), 4) == 4
    assert tuning.near_end(Dimension(integer=(1, 4)), 3) is None
    assert tuning.near_end(Dimension(choice=(1, 2)), 1) is None


def test_results_by_other_settings_than_the_chosen_ones_are_refused(study: Path, found: results.Found) -> None:
    path = study / "reports/tuning.json"
    kept = path.read_text()
    content = json.loads(kept)
    content["chosen"]["cnn"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(StageError, match=r"cnn-0\.json: made with train\.lr 0\.\d+, and params\.yaml has"):
        results.read(found.settings)
    path.write_text(json.dumps(content | {"trials": content["trials"][1:]}))
    with pytest.raises(StageError, match=r"tuning\.json: its trials are not those of params\.yaml; run `dvc repro`"):
        results.read(found.settings)
    path.write_text(kept)


def test_a_study_that_tunes_nothing_has_no_such_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_study.write(tmp_path))
    assert tuning.section(results.read(load_params())) is None
