"""A trained model is scored on corrupted test images: the whole panel, as params.yaml asks."""

import contextlib
import dataclasses
from pathlib import Path

import pytest
import torch

from pipeline.images import corruptions, packed
from pipeline.images.corruptions import Corruption
from pipeline.inference import forward, loading
from pipeline.params.read import load_params
from pipeline.records import looks
from pipeline.records.corruptions import Corrupted, Panel
from pipeline.records.evaluation import Evaluation
from pipeline.records.predictions import Predictions, cached_path
from pipeline.stages import corrupt, source
from tests import small_study, trees


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    trees.class_tree(folder / "images", {"": {"cat": 40, "dog": 40}}, (16, 16))
    settings = {
        "dataset.name": "folder",
        "dataset.source": "images",
        "replicates": [0],
        "corruptions": {"replicates": [0], "severities": [2, 5], "seed": 3},
    }
    return small_study.run(folder, settings, {"tiny": small_study.MODELS["tiny"]}, ("tiny-0",))


def found(study: Path, monkeypatch: pytest.MonkeyPatch) -> Corrupted:
    monkeypatch.chdir(study)
    corrupt.corrupt("tiny-0")
    return Corrupted.read(study / "reports/corruptions/tiny-0.json")


def test_every_corruption_is_scored_in_the_severities_and_by_the_seed_of_params_yaml(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = found(study, monkeypatch)
    assert {look.settings for look in looks.known() if look.model == "tiny"} == {looks.asked(load_params(), "tiny")}
    scored = {look.kind: look for look in looks.known() if look.model == "tiny"}
    assert scored["corruptions"] == dataclasses.replace(
        scored["evaluation"], kind="corruptions", when=scored["corruptions"].when
    )
    assert record.names == [(name, severity) for name in corruptions.PANEL for severity in (2, 5)]
    assert record.weights_sha256 == Evaluation.read(study / "reports/evaluations/tiny-0.json").run.weights_sha256
    images, (network, config) = packed.read(study / "data/test/0"), loading.load(study / "models/tiny-0")
    pixels = corruptions.corrupted(images.pixels, "fog", 5, seed=3)
    form, device = loading.image_format(config), torch.device("cpu")
    logits = forward.predict(network, packed.Images(pixels, images.labels), form, device)
    right = (logits.argmax(1) == images.labels).numpy()
    assert (record.right[record.names.index(("fog", 5))] == right).all()
    assert [each.accuracy for each in record.variants] == pytest.approx(record.right.mean(1))


def test_what_changes_nothing_leaves_the_scores_of_evaluate(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Corruption("none", (lambda images, _: images,) * 5)
    monkeypatch.setattr(corrupt, "PANEL", {"none": nothing})
    monkeypatch.setattr(corruptions, "PANEL", {"none": nothing})
    record = found(study, monkeypatch)
    assert record.right.tolist() == [Predictions.read(study / cached_path("tiny-0")).right.tolist()] * 2


def test_source_says_what_is_asked_for(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    with contextlib.redirect_stdout(None):
        source.main()
    assert Panel.read() == Panel([0], [2, 5], 3)
