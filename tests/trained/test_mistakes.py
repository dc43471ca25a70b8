"""The test images that a training got wrong: the surest first, under the names of their files, and the files."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.commands import mistakes as command
from pipeline.records.predictions import Predictions
from pipeline.trained import mistakes
from tests import small_study, trees

CLASSES = ["fear", "joy", "fear/joy"]
SAID = np.array([[0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]])
ACTUAL = np.array([0, 0, 1, 2, 2])
IMAGES = ["test/fear/1.jpg", "test/fear/2.jpg", "test/joy/1.jpg", "test/both/=1.png", "../secret.png"]


def predictions(images: list[str] | None = IMAGES) -> Predictions:
    return Predictions.of(CLASSES, ACTUAL, SAID.argmax(1), SAID, images)


def test_mistakes_are_those_whose_class_is_not_the_one_predicted_the_surest_first() -> None:
    assert [each.words for each in mistakes.wrong(predictions())] == [
        "test/fear/2.jpg: fear, taken for joy at 90.0% (fear at 5.0%)",
        "test/both/=1.png: fear/joy, taken for fear at 90.0% (fear/joy at 5.0%)",
        "test/fear/1.jpg: fear, taken for joy at 70.0% (fear at 20.0%)",
    ]
    assert [each.row for each in mistakes.wrong(predictions(), "fear")] == [1, 0]
    assert mistakes.wrong(predictions(None), "fear")[0].image == "image 1"


def test_a_class_is_named_in_any_capitals_and_an_unknown_one_refused_with_the_choices() -> None:
    assert mistakes.class_named("Fear", CLASSES) == "fear"
    assert mistakes.class_named("b", ["B", "b"]) == "b"
    with pytest.raises(StageError, match="no class 'anger'; choose from fear, joy"):
        mistakes.class_named("anger", CLASSES)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of cnn's two replicates, predictions of the second, one image in the source and all as packed."""
    (tmp_path / "study").mkdir()
    folder = small_study.scores(tmp_path / "study", {"cnn-0": (0.7, 0.9), "cnn-1": (0.9, 0.1), "vit-0": (0.99, 0.9)})
    trees.put(tmp_path / "secret.png", b"secret")
    trees.put(folder / "source/test/fear/2.jpg", b"a picture")
    (folder / "reports/predictions").mkdir()
    predictions().write(folder / "reports/predictions/cnn-1.parquet")
    trees.put(folder / "data/test/1/manifest.csv", "\n".join(["name", *IMAGES]).encode())
    np.save(folder / "data/test/1/images.npy", np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4, 1))
    monkeypatch.chdir(folder)
    settings = mistakes.load_params()
    dataset = settings.dataset.model_copy(update={"source": "source"})
    monkeypatch.setattr(mistakes, "load_params", lambda: settings.model_copy(update={"dataset": dataset}))
    return folder


@pytest.mark.usefixtures("study")
def test_a_models_best_replicate_by_validation_is_meant_or_the_one_named() -> None:
    assert mistakes.training("cnn") == "cnn-1"
    assert mistakes.training("cnn-0") == "cnn-0"
    with pytest.raises(StageError, match=r"no model 'resnet' in params\.yaml; choose from cnn, vit"):
        mistakes.training("resnet")


def test_copies_are_files_of_the_source_or_what_split_packed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.run(Namespace(model="cnn", of_class="", copy=Path("wrong")))
    copies = sorted((study / "wrong").iterdir())
    assert [path.name for path in copies] == [
        "0001-fear-as-joy-90.0-test_fear_2.jpg",
        "0002-fear_joy-as-fear-90.0-test_both_1.png",
        "0003-fear-as-joy-70.0-test_fear_1.png",
    ]
    assert copies[0].read_bytes() == b"a picture"
    assert np.array_equal(np.asarray(Image.open(copies[2])), np.load("data/test/1/images.npy")[0, ..., 0])
    printed = capsys.readouterr().out
    assert "cnn-1: 3 of 5 test images wrong" in printed
    assert "wrong: 1 files of the source, 2 as split packed them" in printed
    with pytest.raises(
        StageError, match="--copy: wrong is not empty, and old would stand among new; give a new folder"
    ):
        command.run(Namespace(model="cnn", of_class="joy", copy=Path("wrong")))
    assert sorted((study / "wrong").iterdir()) == copies


def test_a_name_that_leads_out_of_the_source_is_no_file_of_it(study: Path) -> None:
    assert (study / "source/../../secret.png").exists()
    assert mistakes.inside(study / "source", "../../secret.png") is None
    assert mistakes.inside(study / "source", str(study.parent / "secret.png")) is None
    assert mistakes.inside(study / "source", "test/fear/2.jpg") is not None


def test_other_test_images_than_those_that_were_scored_are_refused(study: Path) -> None:
    trees.put(study / "data/test/1/manifest.csv", b"name\nother.png\n")
    with pytest.raises(StageError, match="not the test images that cnn-1 was scored on"):
        mistakes.packed_images("cnn-1", IMAGES)
