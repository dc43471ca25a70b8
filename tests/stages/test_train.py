"""Which images a training learns from, and what it then leaves for the stages that follow."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.inference import forward, loading
from pipeline.stages.evaluate import evaluate
from pipeline.stages.train import former, train
from pipeline.tracking import runs
from pipeline.training import session
from tests import small_study, trees

TINY = {"tiny": {**small_study.MODELS["tiny"], "train": {"epochs": 2, "lr": 0.02, "select": "last"}}}
FILES = ("weights.safetensors", "config.json", "run.json")


def including(folder: Path, wanted: bool, **changes: object) -> None:
    """params.yaml of one tiny model that is, or is not, trained on the validation images too."""
    protocol = {**TINY["tiny"]["train"], "include_validation": wanted, **changes}
    small_study.write(folder, {}, {"tiny": {**TINY["tiny"], "train": protocol}})


def both() -> int:
    return sum(len(np.load(f"data/fit/0/{split}_labels.npy")) for split in ("train", "val"))


@pytest.fixture
def study(trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small study's data, in which trainings and evaluations are not logged."""
    shutil.copytree(trained_folder / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for opened in ("training_run", "evaluation_run"):
        monkeypatch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
    return tmp_path


def test_a_tiny_network_with_every_technique_is_trained_and_evaluated(tmp_path: Path) -> None:
    layers = ["conv 8", "pool", "dw 8 skip", "transition 6", "pool", "conv 12"]
    switches = {"in_channels": 1, "blurpool": True, "squeeze_excite": 0.25}
    augment = {"cutout": 4, "mixup": 0.2}
    protocol = {"schedule": "onecycle", "sam": 0.05, "label_smoothing": 0.1, "select": "average"}
    model = {"family": "tiny", "layers": layers, **switches, "augment": augment, "train": protocol}
    settings = {"dataset.normalise": "dataset", "train.epochs": 2}
    folder = small_study.run(tmp_path, settings, {"tiny": model}, ["tiny-0"])
    found = json.loads((folder / "reports/evaluations/tiny-0.json").read_text())
    assert found["overrides"] == {**augment, **protocol}
    assert found["config"]["model"]["layers"] == layers
    assert found["selected"]["epoch"] == 2
    trained = json.loads((folder / "models/tiny-0/config.json").read_text())
    pixels = np.load(folder / "data/fit/0/train_images.npy") / 255
    assert trained["normalise"]["mean"] == pytest.approx([pixels.mean()], abs=1e-6)


def test_including_validation_images_is_training_on_a_split_that_has_none(study: Path) -> None:
    """The oracle: the same training where split had put all of them among the training images."""
    including(study, True)
    train("tiny", 0)
    found = (study / "models/tiny-0/weights.safetensors").read_bytes()
    assert json.loads((study / "models/tiny-0/run.json").read_text())["train_images"] == both()

    for kind in ("images", "labels"):
        parts = [np.load(study / f"data/fit/0/{split}_{kind}.npy") for split in ("train", "val")]
        np.save(study / f"data/fit/0/train_{kind}.npy", np.concatenate(parts))
    including(study, False)
    train("tiny", 0)
    assert (study / "models/tiny-0/weights.safetensors").read_bytes() == found


def test_a_renamed_model_is_not_trained_again(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the training is told apart by: another setting trains, and so does a twin whose elder is still wanted."""

    def written(models: dict[str, dict]) -> None:
        """params.yaml, and what the stage `source` leaves for each of its models."""
        small_study.write(study, {}, models)
        shutil.rmtree("data/weights", ignore_errors=True)
        for name in models:
            trees.put(study / "data/weights" / name, b"")

    written(TINY)
    train("tiny", 0)
    kept = {path.name: path.read_bytes() for path in (study / "models/tiny-0").iterdir()}
    renamed = {"small": TINY["tiny"]}
    other = {"small": {**TINY["tiny"], "train": {**TINY["tiny"]["train"], "lr": 0.03}}}
    trained: list[str] = []
    record = session.record
    monkeypatch.setattr(session, "record", lambda one, *rest: (trained.append(one.name), record(one, *rest)))
    written(other)
    train("small", 0)
    assert trained == ["small-0"]
    shutil.rmtree("models/small-0")
    written({**TINY, **renamed})
    train("small", 0)
    assert trained == ["small-0", "small-0"]
    shutil.rmtree("models/small-0")
    written(renamed)
    train("small", 0)
    assert trained == ["small-0", "small-0"]
    assert "small-0 is tiny-0 under another name: taken from models/tiny-0, not trained" in capsys.readouterr().out

    found = {path.name: path.read_bytes() for path in (study / "models/small-0").iterdir()}
    assert {name for name in found if found[name] != kept[name]} == {"config.json", "run.json"}
    assert json.loads(found["config.json"]) == {**json.loads(kept["config.json"]), "model": "small"}
    then, now = json.loads(kept["run.json"]), json.loads(found["run.json"])
    assert {key for key in now if now[key] != then[key]} <= {"key", "mlflow_run"}
    assert now["key"] != then["key"]
    histories = [Path(f"reports/histories/{name}-0.csv").read_bytes() for name in ("tiny", "small")]
    assert histories[0] == histories[1]


def test_a_job_of_a_launch_takes_a_renamed_model_from_the_users_own_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job runs in a clone, whose models/ has nothing of earlier runs."""
    home, clone = tmp_path / "home", tmp_path / "clone"
    for place in (home, clone):
        (place / ".git").mkdir(parents=True)
    for name in ("models/tiny-0", "models/tiny-1", "models/other-0", "models/small-0"):
        (home / "studies/mine" / name).mkdir(parents=True)
    for place in (
        home / "studies/mine/data/weights/other",
        *(each / "studies/mine/data/weights/small" for each in (home, clone)),
    ):
        trees.put(place, b"")
    monkeypatch.chdir(clone / "studies/mine")
    assert former(0) == ()
    monkeypatch.setenv("VERSUS_HOME", str(home))
    assert former(0) == (home / "studies/mine/models/tiny-0",), (
        "of this replicate, and named no more: other is a twin, not an earlier name"
    )


@pytest.mark.parametrize("changes", [{}, {"select": "average"}, {"select": "average", "average": "ema"}], ids=str)
def test_what_was_trained_on_the_validation_images_has_no_validation_score(
    study: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str]
) -> None:
    including(study, True, **changes)
    train("tiny", 0)
    assert "validation macro-F1 - at epoch 2 of 2" in capsys.readouterr().out
    assert sorted(path.name for path in (study / "models/tiny-0").iterdir()) == sorted(FILES)
    history = pd.read_csv(study / "reports/histories/tiny-0.csv")
    assert history.filter(like="val_").isna().all(axis=None)
    assert history.filter(like="train_").notna().all(axis=None)

    evaluate("tiny-0")
    result = json.loads((study / "reports/evaluations/tiny-0.json").read_text())
    assert result["selected"]["val_macro_f1"] is None
    assert result["calibration"]["temperature"] is result["calibration"]["set_coverage"] is None
    assert result["calibration"]["log_loss"] > 0
    assert result["train_images"] == both()


def test_the_first_of_several_views_is_scored_alone_too(study: Path) -> None:
    settings = {"augment.crop_size": 14, "augment.test_crops": 5}
    small_study.write(study, settings, {"tiny": TINY["tiny"]})
    train("tiny", 0)
    evaluate("tiny-0")
    result = json.loads((study / "reports/evaluations/tiny-0.json").read_text())
    network, config = loading.load(study / "models/tiny-0")
    images, form = packed.read(study / "data/test/0"), loading.image_format(config)
    for views, scores in ((1, result["one_view"]), (5, result["scores"])):
        how = dataclasses.replace(form, views=views)
        right = forward.predict(network, images, how, torch.device("cpu")).argmax(1) == images.labels
        assert scores["accuracy"] == pytest.approx(right.float().mean().item())


def test_mirror_images_are_refused_where_they_would_be_of_other_classes(study: Path) -> None:
    small_study.write(study, {"augment.test_crops": 2}, {"tiny": TINY["tiny"]})
    with pytest.raises(StageError, match=r"test_crops: 2 shows mirror images, which this data set forbids; choose 1"):
        train("tiny", 0)


@pytest.mark.parametrize("colour", [(None, None, 0), (200, 10, 10)])
def test_images_with_a_channel_that_does_not_vary_can_be_trained_on(
    tmp_path: Path, colour: tuple[int | None, ...]
) -> None:
    """Also images that are all of one colour: there is nothing to learn, and nothing that is not a number."""
    rng = np.random.default_rng(0)
    for number in range(12):
        for label, name in enumerate(("cat", "dog")):
            pixels = trees.striped(label, 16, 16, 3, rng)
            for channel, value in enumerate(colour):
                pixels[..., channel] = pixels[..., channel] if value is None else value
            trees.put(tmp_path / "images" / name / f"{number}.png", trees.encoded(pixels))
    settings = {"dataset.name": "folder", "dataset.source": "images", "dataset.normalise": "dataset", "replicates": [0]}
    plain = {"plain": {"family": "tiny", "layers": ["conv 8, pool, conv 8"]}}
    small_study.run(tmp_path, settings, plain, ["plain-0"])
    config = json.loads((tmp_path / "models/plain-0/config.json").read_text())
    assert config["normalise"]["std"][2] == 1.0
