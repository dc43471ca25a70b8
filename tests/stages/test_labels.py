"""The stage suspects labels that no model believes, finds the images that annotators saw, and changes nothing."""

import contextlib
import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.base.places import FIT, RAW, TEST, replicate_folder
from pipeline.datasets import mnist, reviews
from pipeline.datasets.layouts import is_image
from pipeline.datasets.raw import Raw
from pipeline.datasets.reviews import Review
from pipeline.images import packed
from pipeline.images.manifest import image_names
from pipeline.records.dataset import Dataset
from pipeline.records.labels import LabelCheck, Reviews
from pipeline.report import results
from pipeline.report.sections.labels import judge, scored
from pipeline.stages import fetch, labels
from pipeline.tracking import runs
from pipeline.trained import overlay
from tests import repo, small_study
from tests.datasets.test_mnist import write_both


@pytest.fixture(autouse=True)
def _tracks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for opened in ("data_run", "report_run"):
        monkeypatch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))


def review(label: int, rank: int) -> Review:
    return Review(label, rank, guess=(label + 1) % 10, for_label=2, for_guess=3, for_both=0, for_neither=0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty digits that are numbered as the official ones would be, fetched and split."""
    folder = tmp_path_factory.mktemp("digits")
    write_both(folder, per_class=5)
    small_study.write(folder, {"dataset.name": "mnist", "dataset.source": "png", "split.val_fraction": 0.4})
    return small_study.prepared(folder)


def test_reviews_are_told_of_the_images_that_were_reviewed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    monkeypatch.setattr(reviews, "read", lambda _: reviews.Reviews(np.full(10, 5), [review(7, 3)]))
    (found,) = labels.asked("mnist", image_names(replicate_folder(TEST, 0))).images
    numbers = sorted(int(path.stem) for path in Path("png/test/7").iterdir())
    with Image.open(f"png/test/7/{numbers[3]}.png") as image:
        wanted = np.asarray(image)[..., None]
    raw = Raw.open(RAW)
    assert_array_equal(raw.image(raw.names.index(found.image)), wanted)
    assert (found.label, found.guess, found.refuted, found.corrected) == ("7", "8", True, "8")


def test_images_that_are_not_all_of_the_official_ones_are_not_taken_for_them(study: Path) -> None:
    raw = Raw.open(study / RAW)
    with pytest.raises(StageError, match="has not all of the official images"):
        labels.by_image(raw, reviews.Reviews(np.full(10, 1000), [review(7, 0)]))
    unnumbered = dataclasses.replace(raw, ranks=np.full(len(raw.names), -1))
    with pytest.raises(StageError, match="are not numbered"):
        labels.by_image(unnumbered, reviews.Reviews(np.full(10, 5), [review(7, 0)]))


# the whole stage


@pytest.fixture
def sure_study(trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one replicate whose models are sure of every validation image's class, of which one has another label.

    That is the image of row 5, which the data set calls by the class after its own.
    """
    folder = shutil.copytree(trained_folder, tmp_path / "study")
    small_study.write(folder, {"replicates": [0]})
    monkeypatch.chdir(folder)
    path = Path("data/fit/0/val_labels.npy")
    truth = np.load(path)
    for model in small_study.MODELS:
        np.save(f"models/{model}-0/val_logits.npy", 8 * np.eye(10, dtype=np.float32)[truth])
    path.unlink()  # replicates share their files
    np.save(path, np.where(np.arange(len(truth)) == 5, (truth + 1) % 10, truth))
    return folder


@pytest.mark.usefixtures("sure_study")
def test_the_label_that_no_model_believes_is_suspected_shown_and_left_as_it_is() -> None:
    before = {path: path.read_bytes() for path in Path("data").rglob("*.npy")}
    labels.main()
    found, check = LabelCheck.read(labels.FACTS).suspects, LabelCheck.read(labels.FACTS)
    assert found is not None
    assert (found.looked_at, found.trainings, found.suspected) == (288, 3, 1)
    assert found.agreed == pytest.approx(287 / 288, abs=1e-4)
    (suspect,) = found.shown
    label = int(np.load("data/fit/0/val_labels.npy")[5])
    assert suspect.image == image_names(replicate_folder(FIT, 0), "val")[5]
    assert (suspect.label, suspect.likeliest) == (str(label), str((label - 1) % 10))
    assert suspect.highest > 0.99
    assert suspect.tile == [0, 0]
    with Image.open(labels.PICTURE) as sheet:
        tile = np.asarray(sheet)[:96, :96].astype(int)
    drawn = overlay.picture(packed.read(replicate_folder(FIT, 0), "val_"), 5).astype(int)
    assert abs(tile - drawn).mean() < 5  # JPEG
    assert check.reviews == Reviews(source="", untold="", images=[])
    assert {path: path.read_bytes() for path in Path("data").rglob("*.npy")} == before


@pytest.mark.usefixtures("sure_study")
def test_an_image_that_may_not_be_passed_on_is_named_and_not_shown() -> None:
    data = Path("reports/data.json")
    data.write_text(json.dumps(json.loads(data.read_text()) | {"shareable": False}))
    labels.main()
    found = LabelCheck.read(labels.FACTS).suspects
    assert found is not None
    assert [each.tile for each in found.shown] == [None]
    with Image.open(labels.PICTURE) as sheet:
        assert sheet.getextrema() == ((255, 255),) * 3


@pytest.mark.usefixtures("sure_study")
def test_models_that_were_trained_on_the_validation_images_are_not_asked() -> None:
    for name in ("vit-0", "hybrid-0", "tiny-0"):
        path = Path(f"reports/evaluations/{name}.json")
        content = json.loads(path.read_text())
        content["config"]["train"]["include_validation"] = True
        path.write_text(json.dumps(content))
        labels.main()
        found = LabelCheck.read(labels.FACTS).suspects
        assert (found.trainings if found else 0) == {"vit-0": 2, "hybrid-0": 1, "tiny-0": 0}[name]


@pytest.mark.usefixtures("sure_study")
def test_what_annotators_said_and_is_not_at_hand_is_said_in_one_line_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(_: object) -> reviews.Reviews:
        raise StageError("no connection; get mnist_mturk.json from there into here")

    monkeypatch.setattr(reviews, "read", away)
    monkeypatch.setattr(datasets, "about", lambda _: mnist.ABOUT)
    labels.main()
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "no connection; get mnist_mturk.json from there into here; then run `dvc repro -f labels`" in told
    assert LabelCheck.read(labels.FACTS).reviews.untold.startswith("no connection")


# the annotators' own answers, where they are at hand


def given(folder: Path, name: str) -> Path:
    """What VERSUS_DATASETS has of a data set, with one training image of each class; its answers in `folder` too."""
    archive = Path(os.environ.get("VERSUS_DATASETS", "")) / f"{name}.zip"
    answers = archive.parent / reviews.FOLDER / f"{name}_mturk.json"
    official = answers.with_name(f"{name}_test_set_original_labels.npy")
    if not archive.is_file() or not answers.is_file() or not (official.is_file() or name == "mnist"):
        pytest.skip(f"VERSUS_DATASETS does not hold {archive.name}, {answers.name} and {official.name}")
    small, own = folder / archive.name, folder / reviews.FOLDER
    own.mkdir()
    (own / answers.name).symlink_to(answers)
    trained, order = set(), {}
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(small, "w") as some:
        for path in filter(is_image, whole.namelist()):
            above, label = Path(path).parts[-3:-1]
            if above == "test" or label not in trained:
                some.writestr(path, whole.read(path))
            if above == "test":
                order[int(Path(path).stem)] = label
            else:
                trained.add(label)
    if official.is_file():
        (own / official.name).symlink_to(official)
    else:  # MNIST's files are numbered through all digits
        np.save(own / official.name, np.array([order[number] for number in sorted(order)], dtype=np.uint16))
    return small


@pytest.mark.parametrize(
    ("name", "study", "model", "known"),  # errors of a replicate -> those on refuted labels
    [
        ("mnist", "mnist_efficient", "cnn_7k", {116: 9, 125: 11, 146: 10, 104: 12, 98: 11}),
        ("cifar10", "cifar10_efficient", "bp_co_m_ls_swa_sam", {1771: 44}),
    ],
)
def test_the_share_of_committed_models_errors_that_are_the_labels(
    name: str, study: str, model: str, known: dict[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured on 2026-11-28 and 29; what is trained anew may make other errors, of which about as many are."""
    archive = given(tmp_path, name)
    repo.export(tmp_path, f"studies/{study}/reports", f"studies/{study}/params.yaml")
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path / "studies" / study)
    with datasets.opened(name, str(archive)) as (about, collection):
        Path("data").mkdir()
        fetch.write(RAW, collection, fetch.describe(name, about, collection))
    raw = Raw.open(RAW)
    names = [image for image, part in zip(raw.names, raw.splits, strict=True) if part == "test"]
    said = labels.asked(name, names)
    data = Dataset.read()
    replicates = sorted(int(path.stem.rpartition("-")[2]) for path in Path("reports/predictions").glob(f"{model}-*"))
    found = dataclasses.replace(results.read_model(model, replicates, data), images=tuple(names))
    row = scored(found, judge(found, said, data.names), len(data.names))
    assert said.refuted == {"mnist": 15, "cifar10": 54}[name]
    for errors, of_labels in zip(row.errors.tolist(), row.of_labels.tolist(), strict=True):
        assert of_labels == pytest.approx(
            known.get(errors, np.mean(list(known.values()))), abs=0 if errors in known else 4
        )
    assert row.scores["accuracy"].mean < row.scores["accuracy_corrected"].mean < row.scores["accuracy_unrefuted"].mean
    if set(row.errors.tolist()) == set(known) == {116, 125, 146, 104, 98}:
        assert [round(row.scores[key].mean, 4) for key in ("accuracy", "accuracy_corrected")] == [0.9882, 0.9886]
