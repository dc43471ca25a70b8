"""`versus probe`: features of networks as they start, computed once, kept by content."""

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline import cli
from pipeline.base.errors import StageError
from pipeline.inference import embedding
from pipeline.params.read import load_params
from pipeline.records import looks
from pipeline.trained import frozen
from tests import small_study, trees

RESNET = {"family": "timm", "backbone": "resnet18", "args": {"channels": [8, 8, 16, 16]}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two colours; a network that starts from a file, and one from scratch."""
    folder = tmp_path_factory.mktemp("study")
    (folder / ".git").mkdir()
    trees.class_tree(folder / "images", {"": {"cat": 40, "dog": 40}}, (16, 16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        save_file(timm.create_model("resnet18", channels=(8, 8, 16, 16)).state_dict(), folder / "resnet.safetensors")
    models = {"given": {**RESNET, "pretrained": "resnet.safetensors"}, "scratch": RESNET}
    settings = {"dataset.name": "folder", "dataset.source": "images", "replicates": [0]}
    small_study.write(folder, settings, models)
    return small_study.prepared(folder)


def test_models_that_start_from_weights_are_probed_and_their_features_computed_once(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    cli.main(["probe", "--csv", "probes.csv"])
    said = capsys.readouterr().out
    with (study / "probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"given"}
    assert [row["probe"] for row in rows][:3] == ["linear", "nearest neighbours", "1 image a class"]
    assert {row["features"] for row in rows} == {"16"}
    assert "test images were scored once" in said
    (look,) = looks.known()
    assert (look.kind, look.model) == ("probe", "given")
    monkeypatch.setattr(embedding, "features", lambda *_: pytest.fail("computed again"))
    cli.main(["probe", "given"])
    assert capsys.readouterr().out == said


def test_features_are_of_the_weights_of_the_file(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As timm's own network gives them, and others than those of a network from scratch."""
    monkeypatch.chdir(study)
    found = frozen.probed(load_params(), "given")
    scratch = frozen.probed(load_params(), "scratch")
    assert found.features == scratch.features == 16
    kept = [np.load(path) for path in sorted((study / ".versus/features").glob("*.npy"))]
    assert len(kept) == 6  # training, validation, test of both
    from safetensors.torch import load_file

    from pipeline.images import form, packed

    network = timm.create_model("resnet18", channels=(8, 8, 16, 16), num_classes=0)
    network.load_state_dict(
        {k: v for k, v in load_file(study / "resnet.safetensors").items() if not k.startswith("fc.")}
    )
    images = packed.read(study / "data/test/0")
    prepared = form.prepare(images.pixels, form.format_for(16, "imagenet", {}, 3))
    with torch.no_grad():
        wanted = network.eval()(prepared).numpy()
    assert any(each.shape == wanted.shape and np.allclose(each, wanted, atol=1e-4) for each in kept)


def test_a_model_that_is_not_there_is_refused_and_so_are_none_with_weights(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    params = load_params()
    with pytest.raises(StageError, match="no model 'vit'; choose from given, scratch"):
        frozen.probed(params, "vit")
    with pytest.raises(StageError, match="no model starts from weights"):
        frozen.starting_from_weights(params.only("scratch"))
