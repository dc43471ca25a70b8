"""A cross-validated study from its images to its report: each fold's model is scored on what it did not see."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pipeline.records.predictions import Predictions, predictions_path
from pipeline.trained.evaluated import held_out
from tests import small_study, trees

TINY = {"tiny": {"family": "tiny", "layers": ["conv 8, pool, conv 8"], "train": {"lr": 0.02}}}
OTHER = {"other": {"family": "tiny", "layers": ["conv 4"], "train": {}}}
FOLDS = ("tiny-0", "tiny-1", "tiny-2", "other-0", "other-1", "other-2")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds by subject of a generated JAFFE, two tiny networks, and everything up to the report."""
    from pipeline.stages import doctor, preview, report
    from pipeline.tracking import runs

    folder = tmp_path_factory.mktemp("folds")
    source = trees.jaffe(folder / "source", dict.fromkeys(trees.JAFFE, 20), side=16)
    settings = {"dataset.name": "jaffe", "dataset.source": str(source), "dataset.imbalance": 1, "replicates": [0, 1, 2]}
    settings |= {"split.folds": 3, "split.folds_by": "subject", "split.val_fraction": 0.2}
    small_study.run(folder, settings, {**TINY, **OTHER}, FOLDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "report_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
        patch.setattr(small_study.Untracked, "artifact", lambda *_: None)
        doctor.main()
        preview.main()
        report.main()
    return folder


def test_each_replicate_trains_and_is_tested_on_its_own_fold(study: Path) -> None:
    for replicate in range(3):
        config = json.loads((study / f"models/tiny-{replicate}/config.json").read_text())
        fit = json.loads((study / f"data/fit/{replicate}/info.json").read_text())
        assert config["data"]["digest"] == fit["digest"]
        predictions = Predictions.read(predictions_path(f"tiny-{replicate}", study))
        assert predictions.classes == list(trees.FER2013)
        assert predictions.actual.tolist() == np.load(study / f"data/test/{replicate}/labels.npy").tolist()


def test_scores_are_means_over_folds_and_every_image_is_counted_once(study: Path) -> None:
    found = json.loads((study / "reports/metrics.json").read_text())["models"]["tiny"]
    parts = [Predictions.read(predictions_path(f"tiny-{replicate}", study)).right for replicate in range(3)]
    accuracies = [part.mean() for part in parts]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert found["accuracy"]["n"] == 3
    assert found["images"] == sum(map(len, parts)) == 140


def test_every_label_is_looked_at_by_the_models_of_the_fold_that_did_not_learn_it(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    found = held_out(["tiny", "other"], [0, 1, 2], folds=True)
    assert found is not None
    assert (len(found), len(set(found.names)), found.trainings) == (140, 140, 6)
    first, second = (Predictions.read(predictions_path(f"{model}-1", study)) for model in ("tiny", "other"))
    rows = [found.names.index(name) for name in first.images or ()]
    assert_allclose(found.probabilities[rows], (first.probabilities + second.probabilities) / 2, atol=0.001)
    assert found.labels[rows].tolist() == first.actual.tolist()
    folder, row = found.places[rows[3]]
    assert np.load(folder / "labels.npy")[row] == first.actual[3]


def test_the_page_speaks_of_folds(study: Path) -> None:
    page = (study / "reports/report.html").read_text()
    for text in (
        "140 test images, each in its fold&#39;s model",
        "95% intervals over n = 3 folds (Student t, corrected for the training images that folds share)",
        "Folds are drawn by subject: nobody is in training and test.",
        "summed over 3 folds",
        "6 (2 models × 3 folds)",
        "Used: in the first of 3 folds.",
    ):
        assert text in page, text
    assert "3 replicates" not in page
    assert "n = 3 folds" in (study / "reports/tables/comparison.md").read_text()


def test_a_folds_model_answers_for_single_images(study: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from pipeline.commands.predict import predict

    monkeypatch.chdir(study)
    image = sorted(Path("source").glob("*.tiff"))[0]
    assert predict([str(image)], "tiny-2")
    assert str(image) in capsys.readouterr().out
