"""`versus estimate`: the time of a study, from a few steps of each of its models."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.base.errors import StageError
from pipeline.commands.estimate import estimate
from pipeline.params.read import load_params
from pipeline.training import timing
from tests import small_study


@pytest.mark.usefixtures("trained_study")
def test_a_studys_time_is_its_steps_epochs_and_trainings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    seconds = iter([0.5, 0.25, 1.0, 0.0, 2.0, 0.0])  # of a training step and of a validation batch, model by model
    monkeypatch.setattr(timing, "timed", lambda call, _: (call(), next(seconds))[1])
    estimate(as_json=True)
    found = json.loads(capsys.readouterr().out)
    tiny, vit, _ = found["models"]
    steps, val_batches = 19, 9  # of 586 and 288 images, 32 at a time
    assert tiny["seconds"] == pytest.approx(3 * (steps * 0.5 + val_batches * 0.25))  # tiny has 3 epochs of its own
    assert (vit["seconds"], vit["trainings"], vit["total_seconds"]) == (steps, 2, 2 * steps)
    assert found["total_seconds"] == pytest.approx(sum(each["total_seconds"] for each in found["models"]))
    assert "Left out: evaluation" in found["note"]


def test_validation_images_that_are_trained_on_are_steps_of_training(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"train.select": "last", "train.include_validation": True}
    monkeypatch.chdir(small_study.write(tmp_path, settings, {"tiny": small_study.MODELS["tiny"]}))
    shutil.copytree(trained_folder / "data", tmp_path / "data")
    monkeypatch.setattr(timing, "timed", lambda call, _: (call(), 1.0)[1])
    estimate(as_json=True)
    (tiny,) = json.loads(capsys.readouterr().out)["models"]
    assert tiny["seconds"] == 3 * 28  # epochs, and steps of 874 images, 32 at a time


def test_short_trials_take_their_share_of_a_training_and_finalists_a_whole_one(tmp_path: Path) -> None:
    """Sixteen trials of 5 of 45 epochs and three of their best in full: the time of 4.8 trainings."""
    tune = {"trials": list(range(16)), "models": {"tiny": {}}, "space": {"train.lr": {"uniform": [0.001, 0.01]}}}
    models = {"tiny": {**small_study.MODELS["tiny"], "train": {"epochs": 45}}, "vit": small_study.MODELS["vit"]}
    found = []
    for finalists in ([], [0, 1, 2]):
        small_study.write(tmp_path, {"tune": {**tune, "finalists": finalists, "short_epochs": 5}}, models)
        settings = load_params(tmp_path / "params.yaml")
        found.append(timing.tried(settings, "tiny"))
        assert timing.tried(settings, "vit") == (0, 0.0)
    assert found == [(16, 16.0), (19, pytest.approx(16 * 5 / 45 + 3))]


@pytest.mark.usefixtures("trained_study")
def test_compilation_pays_where_its_seconds_are_gained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """19 steps an epoch, each half a second less, in 40 seconds: from the fifth epoch on. Slower steps never pay.

    The kernels of mode fused are compiled before the first step, not in it.
    """
    now = [0.0]

    def compiled_by(_: str, network: torch.nn.Module) -> torch.nn.Module:
        now[0] += 40
        return network

    monkeypatch.setattr(timing, "compiled_by", compiled_by)
    seconds = iter([1.0, 0.0, 0.5, 1.0, 0.0, 1.5, 1.0, 0.0, 1.0])
    monkeypatch.setattr(timing, "timed", lambda call, _: (call(), next(seconds))[1])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    estimate(compiled=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("500 ms         40.0 s  from 5 epochs")
    assert lines[3].endswith("never")
    assert lines[4].endswith("never")


@pytest.mark.parametrize("both", [False, True])
def test_a_study_that_compiles_is_told_the_time_of_compiled_steps(
    both: bool,
    trained_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"train.compile": "fused"}
    monkeypatch.chdir(small_study.write(tmp_path, settings, {"tiny": small_study.MODELS["tiny"]}))
    shutil.copytree(trained_folder / "data", tmp_path / "data")
    compiled: list[str] = []
    monkeypatch.setattr(timing, "compiled_by", lambda mode, network: compiled.append(mode) or network)
    monkeypatch.setattr(timing, "timed", lambda call, _: (call(), 0.25 if compiled else 1.0)[1])
    estimate(as_json=True, compiled=both)
    (tiny,) = json.loads(capsys.readouterr().out)["models"]
    steps, val_batches = 19, 9
    assert tiny["seconds"] == pytest.approx(3 * (steps * 0.25 + val_batches * 1.0))
    assert (tiny["step_ms"], tiny["compiled_ms"]) == ((1000, 250) if both else (250, None))
    assert compiled == ["fused"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch's own tracing
@pytest.mark.usefixtures("trained_study")
def test_steps_of_networks_that_torch_compiles_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch's wrapper has the length of the network that it wraps, and raises where that has none, as most have not."""

    def compiled_by(mode: str, network: torch.nn.Module) -> torch.nn.Module:
        return torch.compile(network, mode=mode, backend="eager")

    monkeypatch.setattr(timing, "compiled_by", compiled_by)
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    estimate(as_json=True, compiled=True)
    assert all(each["compiled_ms"] > 0 for each in json.loads(capsys.readouterr().out)["models"])


@pytest.mark.usefixtures("trained_study")
def test_the_table_is_of_measured_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    estimate()
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[2:5]] == list(small_study.MODELS)
    assert "of training, one after the other" in printed.out
    assert printed.err.splitlines() == [
        f"measuring {name}, {number} of 3" for number, name in enumerate(small_study.MODELS, 1)
    ]


@pytest.mark.parametrize("content", ["{}", "[]", "{"])
def test_damaged_data_is_named_with_the_remedy(
    content: str, trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained_folder / "params.yaml", tmp_path)
    shutil.copytree(trained_folder / "data/fit", tmp_path / "data/fit")
    Path("data/fit/0/info.json").write_text(content)
    with pytest.raises(StageError, match=r"data/fit/0: damaged; run `dvc checkout --force data/fit/0`"):
        estimate()


def test_without_images_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {}))
    with pytest.raises(StageError, match=r"data/fit/0/info\.json: not found; run `dvc repro`"):
        estimate()
