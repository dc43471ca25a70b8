"""A trial keeps what validation says, whatever comes of its training; it leaves nothing else."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.params.read import load_params
from pipeline.params.trials import DRAWN, RESULTS, drawn
from pipeline.records.tuning import TrialResult
from pipeline.stages import check, choose, fetch, split, trial
from pipeline.stages.train import train
from pipeline.tracking import runs
from tests import small_study

TUNE = {
    "trials": [0, 1],
    "models": {"tiny": {}},
    "finalists": [],
    "space": {"train.lr": {"choice": [1e30, 0.02]}},  # at the first no number stays finite
    "seed": 2,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks: both trials of one, and what was chosen."""
    folder = tmp_path_factory.mktemp("tuned")
    tiny = {**small_study.MODELS["tiny"], "train": {"epochs": 6, "lr": 1e-6}}  # a rate that learns nothing
    models = {"tiny": tiny, "as_is": tiny}
    settings = {"tune": TUNE, "train.select": "last", "train.include_validation": True, "train.clip_norm": None}
    small_study.write(folder, settings, models)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "trial_run", "training_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
        patch.setattr(runs, "chosen", lambda *_: None)
        fetch.main()
        split.main()
        params = load_params()
        found = drawn(params, "tiny")
        check.write_trials(found)
        check.write_needed(params)
        for each in found:
            trial.tried(each, RESULTS / f"{each.name}.json")
        choose.main()
        train("tiny", 0)
        train("as_is", 0)
    return folder


def result(study: Path, rate: float) -> TrialResult:
    """The trial of one learning rate."""
    every = [TrialResult.read(path) for path in sorted((study / RESULTS).glob("*.json"))]
    return next(each for each in every if each.settings["train.lr"] == rate)


def test_a_trial_that_diverges_is_a_result_with_its_reason_and_its_cost(study: Path) -> None:
    lost = result(study, 1e30)
    assert (lost.val_macro_f1, lost.epoch) == (None, None)
    assert "at epoch 1" in lost.reason or "after epoch 1" in lost.reason
    assert lost.seconds > 0
    assert lost.images > 0


def test_validation_images_choose_though_the_study_trains_on_them_in_the_end(study: Path) -> None:
    kept = result(study, 0.02)
    assert kept.val_macro_f1 is not None
    sizes = json.loads((study / "data/fit/0/info.json").read_text())
    assert kept.images == 6 * sum(sizes["train"].values())
    config: dict[str, Any] = json.loads((study / "models/tiny-0/config.json").read_text())
    assert config["train"]["include_validation"] is True
    assert config["train"]["lr"] == 0.02
    assert config["overrides"]["lr"] == 0.02
    assert config["replicate"] == 0 != kept.seed


def test_weights_of_a_trial_are_not_kept_and_its_state_is_gone(study: Path) -> None:
    assert sorted(path.name for path in (study / RESULTS).iterdir() if path.is_file()) == ["tiny-0.json", "tiny-1.json"]
    assert sorted(path.name for path in (study / DRAWN).iterdir()) == ["tiny-0.json", "tiny-1.json"]
    assert sorted(path.name for path in (study / "models").iterdir()) == ["as_is-0", "tiny-0"]


def test_a_model_with_a_wrong_rate_recovers_by_tuning(study: Path) -> None:
    learnt = {
        name: json.loads((study / f"models/{name}-0/run.json").read_text())["selected"]["train_accuracy"]
        for name in ("tiny", "as_is")
    }
    assert learnt["tiny"] > learnt["as_is"] + 0.2
    assert json.loads((study / "data/chosen/as_is.json").read_text()) == {}
    assert json.loads((study / "models/as_is-0/config.json").read_text())["train"]["lr"] == 1e-6
