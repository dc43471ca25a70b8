"""What choosing the epoch on the test images would pretend is measured on request, and nothing selects by it."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base.errors import StageError
from pipeline.params import faults
from pipeline.params.read import load_params
from pipeline.records import diary, looks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.train import train
from pipeline.tracking import runs
from pipeline.training import resume
from tests import small_study, trees
from tests.training.test_fit import fit

NET = {"family": "tiny", "layers": ["conv 8, pool, conv 8"]}
MODELS = {
    "best": {**NET, "train": {"epochs": 4, "lr": 0.02}},
    "last": {**NET, "train": {"epochs": 4, "lr": 0.02, "select": "last"}},
    "average": {**NET, "train": {"epochs": 4, "lr": 0.02, "select": "average"}},
    "once": {**NET, "train": {"epochs": 1, "lr": 0.02}},
}
SETTINGS = {"replicates": [0], "train.keep_epochs": True, "evaluate.inflation": True, "dataset.imbalance": 1.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_study.run(tmp_path_factory.mktemp("study"), SETTINGS, MODELS, [f"{name}-0" for name in MODELS])


def evaluation(study: Path, name: str) -> dict:
    return json.loads((study / f"reports/evaluations/{name}-0.json").read_text())


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_gap_is_the_highest_test_score_of_any_epoch_less_that_of_the_chosen_one(study: Path, name: str) -> None:
    found = evaluation(study, name)
    rows = found["inflation"]["epochs"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    chosen = rows[found["selected"]["epoch"] - 1]
    for score in ("accuracy", "macro_f1"):
        assert chosen[score] == found["scores"][score], "that epoch's weights are those that were evaluated"
        highest = max(row[score] for row in rows)
        assert found["inflation"]["gap"][score] == highest - chosen[score]
        assert found["inflation"]["chosen_on_test"][score]["score"] == highest
    assert len({row["accuracy"] for row in rows}) > 1, "each epoch has weights of its own"


def test_of_one_epoch_there_is_nothing_to_choose_and_of_an_average_nothing_is_chosen(study: Path) -> None:
    assert evaluation(study, "once")["inflation"]["gap"] == {"accuracy": 0.0, "macro_f1": 0.0}
    assert evaluation(study, "average")["inflation"] is None


def test_a_look_says_that_every_epoch_was_scored(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    seen = [(look.model, look.kind) for look in looks.known()]
    assert {kind for model, kind in seen if model == "best"} == {"evaluation", "epochs"}
    assert [kind for model, kind in seen if model == "average"] == ["evaluation"]


def test_it_changes_no_score_and_no_weights(study: Path, tmp_path: Path) -> None:
    off = {**SETTINGS, "train.keep_epochs": False, "evaluate.inflation": False}
    plain = small_study.run(tmp_path, off, {"best": MODELS["best"]}, ["best-0"])
    for key in ("scores", "classes", "calibration", "selected"):
        assert evaluation(plain, "best")[key] == evaluation(study, "best")[key]
    weights = "models/best-0/weights.safetensors"
    assert (plain / weights).read_bytes() == (study / weights).read_bytes()
    assert evaluation(plain, "best")["inflation"] is None
    assert not (plain / "models/best-0/epochs").exists()


def test_what_was_trained_on_a_device_that_is_not_here_is_scored_by_the_logits_that_came(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(study, tmp_path / "here", symlinks=True)
    path, before = here / "models/best-0/config.json", evaluation(study, "best")
    path.write_text(path.read_text().replace('"cpu"', '"cuda"' if torch.backends.mps.is_available() else '"mps"'))
    monkeypatch.chdir(here)
    monkeypatch.setattr(runs, "evaluation_run", lambda *_: contextlib.nullcontext(small_study.Untracked()))
    with pytest.raises(StageError, match="is not to be had on this machine"):
        evaluate("best-0")
    evaluate("best-0", (torch.from_numpy(np.load("data/logits/best-0.npy")), None))
    after = evaluation(here, "best")
    assert [after[key] for key in ("scores", "inflation")] == [before[key] for key in ("scores", "inflation")]


def test_epochs_that_were_not_kept_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SETTINGS, "evaluate.inflation": False, "train.keep_epochs": False}
    study = small_study.run(tmp_path, settings, {"once": MODELS["once"]}, ["once-0"])
    monkeypatch.chdir(study)
    with pytest.raises(
        StageError, match=r"evaluate\.inflation: needs the weights of all epochs; set train\.keep_epochs"
    ):
        faults.parse({**load_params().model_dump(mode="json"), "evaluate": {"onnx": False, "inflation": True}})
    small_study.write(study, SETTINGS, {"once": MODELS["once"]})
    with pytest.raises(StageError, match=r"weights of 0 epochs, not of 1; set train\.keep_epochs: true"):
        evaluate("once-0")


def test_a_killed_training_keeps_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before the kill lie with the state that it goes on from."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume, "SHARE", 1e9)
    whole: dict[int, dict[str, torch.Tensor]] = {}
    fit(epochs=4, on_weights=whole.__setitem__)
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def killed(row: diary.Epoch) -> None:
        if row.epoch == 3:
            raise KeyboardInterrupt

    with resume.opened("0" * 64) as state, pytest.raises(KeyboardInterrupt):
        fit(epochs=4, on_epoch=killed, on_weights=kept.__setitem__, keeper=state)
    with resume.opened("0" * 64) as state:
        fit(epochs=4, on_weights=kept.__setitem__, keeper=state)
    assert sorted(kept) == [1, 2, 3, 4]
    assert all(torch.equal(kept[epoch][key], value) for epoch in whole for key, value in whole[epoch].items())


def test_a_training_on_votes_needs_them_and_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From FER+'s table to the weights."""
    trees.ferplus(trees.fer2013_csv(tmp_path / "source/fer2013.csv").parent / "fer2013new.csv")
    settings = {
        "replicates": [0],
        "dataset.name": "fer2013",
        "dataset.source": str(tmp_path / "source"),
        "dataset.image_size": 16,
        "dataset.imbalance": 1.0,
    }
    net = {**NET, "in_channels": 1}
    models = {"labels": net, "votes": {**net, "train": {"targets": "votes"}}}
    (tmp_path / "study").mkdir()
    study = small_study.run(tmp_path / "study", settings, models, ["labels-0", "votes-0"])
    losses = [
        float((study / f"reports/histories/{name}-0.csv").read_text().splitlines()[1].split(",")[2]) for name in models
    ]
    assert losses[0] != losses[1]
    (study / "data/fit/0/train_votes.npy").unlink()
    monkeypatch.chdir(study)
    with pytest.raises(StageError, match=r"train\.targets: votes: this source has none; .*fer2013new\.csv"):
        train("votes", 0)
