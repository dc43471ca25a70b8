"""Predictions are read as they were written, in few bytes, and what cannot be read is named with the remedy."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.base.errors import StageError
from pipeline.records.predictions import Predictions
from tests import trees

ODD = ["a.b", "", "NA", "日本", "x\ny", "p(1)", "image"]  # what classes may be called


def made(classes: list[str], images: int = 400, doubt: float = 1.0, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Predictions of a made-up network, surer the less the `doubt`, and their probabilities in full precision."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(len(classes), doubt), images)  # (N, K)
    actual, names = rng.integers(0, len(classes), images), [f"test/{row:05}.png" for row in range(images)]
    return Predictions.of(classes, actual, probabilities.argmax(1), probabilities, names), probabilities


def assert_same(found: Predictions, wanted: Predictions) -> None:
    assert vars(found).keys() == vars(wanted).keys()
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


@pytest.mark.parametrize("classes", [ODD, [f"c{number}" for number in range(257)]], ids=["few", "many"])
def test_they_are_read_as_they_were_written(classes: list[str], tmp_path: Path) -> None:
    wanted, _ = made(classes)
    wanted.write(tmp_path / "a-0.parquet")
    assert_same(Predictions.read(tmp_path / "a-0.parquet"), wanted)


def test_results_of_before_names_were_kept_have_none(tmp_path: Path) -> None:
    _, probabilities = made(ODD)
    labels = probabilities.argmax(1)
    wanted = Predictions.of(ODD, labels, labels, probabilities, None)
    wanted.write(tmp_path / "a-0.parquet")
    assert_same(Predictions.read(tmp_path / "a-0.parquet"), wanted)
    assert Predictions.read(tmp_path / "a-0.parquet").frame()["image"].isna().all()


def test_a_network_that_diverged_has_no_probabilities(tmp_path: Path) -> None:
    labels = np.zeros(5, dtype=np.int64)
    Predictions.of(["a", "b"], labels, labels, np.full((5, 2), np.nan), None).write(tmp_path / "a-0.parquet")
    found = Predictions.read(tmp_path / "a-0.parquet")
    assert np.isnan(found.confidence).all()
    assert np.isnan(found.probabilities).all()
    assert found.right.all()


def test_decimals_are_the_nearest_to_the_probabilities_in_full() -> None:
    found, probabilities = made(ODD)
    assert abs(found.probabilities - probabilities).max() <= 0.000505  # to five decimals first, then to three
    assert abs(found.confidence - probabilities.max(1)).max() <= 0.000005


def test_of_many_classes_the_likeliest_five_are_kept() -> None:
    classes = [f"c{number}" for number in range(21)]
    found, probabilities = made(classes)
    assert found.likeliest is not None
    assert found.probabilities.shape == found.likeliest.shape == (400, 5)
    np.testing.assert_array_equal(found.likeliest, np.argsort(-probabilities, axis=1)[:, :5])
    np.testing.assert_array_equal(found.likeliest[:, 0], found.predicted)
    assert (np.diff(found.probabilities, axis=1) <= 0).all()


def test_probabilities_of_every_class_are_within_a_thousandth_and_add_up() -> None:
    few, probabilities = made(ODD)
    assert abs(few.of_every_class - probabilities).max() <= 0.000505
    classes = [f"c{number}" for number in range(257)]
    many, probabilities = made(classes, doubt=0.05)
    found = many.of_every_class
    rows = np.arange(len(found))[:, None]
    likeliest = np.argsort(-probabilities, axis=1)[:, :5]
    assert abs(found[rows, likeliest] - probabilities[rows, likeliest]).max() <= 0.000505
    assert abs(found.sum(1) - 1).max() < 0.001
    np.testing.assert_array_equal(found[rows[:, 0], many.predicted], found.max(1))


@pytest.mark.parametrize("doubt", [0.05, 0.2])  # the latter is less sure than any network of the committed studies
def test_ten_thousand_images_of_ten_classes_fit_into_130_kilobytes(doubt: float, tmp_path: Path) -> None:
    found, _ = made(list("0123456789"), images=10_000, doubt=doubt)
    found.write(tmp_path / "a-0.parquet")
    assert (tmp_path / "a-0.parquet").stat().st_size <= 130_000


def test_the_same_predictions_are_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a-0", "b-0"):
        made(ODD)[0].write(tmp_path / f"{name}.parquet")
        digests.add(hashlib.sha256((tmp_path / f"{name}.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_anybody_can_read_them_with_pandas(tmp_path: Path) -> None:
    wanted, _ = made(list("0123456789"))
    wanted.write(tmp_path / "a-0.parquet")
    table = pd.read_parquet(tmp_path / "a-0.parquet")
    assert list(table)[:4] == ["image", "actual", "predicted", "confidence"]
    assert table["image"].tolist() == wanted.images
    assert table["actual"].tolist() == [str(label) for label in wanted.actual]
    assert table["confidence"].astype(float).to_numpy() == pytest.approx(wanted.confidence)
    assert table.filter(like="p(").astype(float).to_numpy() == pytest.approx(wanted.probabilities)


@pytest.mark.parametrize("content", [b"", b"image,actual\n0,1\n", b"PAR1"])
def test_what_is_no_predictions_is_made_anew(content: bytes, tmp_path: Path) -> None:
    path = trees.put(tmp_path / "cnn-0.parquet", content)
    with pytest.raises(StageError, match=r"cnn-0\.parquet: not readable as .*; run `dvc repro predictions`"):
        Predictions.read(path)


def test_a_table_of_something_else_is_made_anew(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "cnn-0.parquet")
    with pytest.raises(StageError, match="not readable as predictions"):
        Predictions.read(tmp_path / "cnn-0.parquet")


def test_where_there_are_none_those_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"cnn-0\.parquet: not found; run `dvc repro predictions`"):
        Predictions.read(tmp_path / "cnn-0.parquet")
    trees.put(tmp_path / "cnn-0.csv", b"image,actual,predicted\n")
    with pytest.raises(StageError, match=r"not found \(cnn-0\.csv is of an earlier version\); run `dvc repro pred"):
        Predictions.read(tmp_path / "cnn-0.parquet")
