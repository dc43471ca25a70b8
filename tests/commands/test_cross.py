"""Models meet other data sets' expressions by name, whatever their order and spelling."""

import dataclasses
import hashlib
import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.commands import cross
from pipeline.images import packed
from pipeline.inference import forward, loading
from pipeline.records import looks
from tests import trees

NETWORK = {"family": "tiny", "layers": ["conv 4, pool"], "in_channels": 1}


def model(folder: Path, classes: tuple[str, ...]) -> str:
    """A folder as train leaves it; returns the SHA-256 of its weights."""
    folder.mkdir(parents=True)
    network = networks.build(name="m", classes=len(classes), image_size=16, seed=1, **NETWORK)
    save_file(network.state_dict(), folder / "weights.safetensors")
    config = {"model": "m", "classes": list(classes), "image_size": 16, "network": NETWORK}
    config |= {"normalise": {"mean": [0.5], "std": [0.25]}, "data": {"dataset": "rafdb"}}
    (folder / "config.json").write_text(json.dumps(config))
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    trees.rafdb_folders(tmp_path / "faces", train=1, test=2, side=20)
    trees.jaffe(tmp_path / "jaffe", dict.fromkeys(trees.JAFFE, 3), side=16)
    sha256 = model(tmp_path / "models/cnn-0", trees.FER2013)
    (tmp_path / "cross.yaml").write_text(
        f"models: {{cnn: {{path: models/cnn-0, sha256: '{sha256}'}}}}\n"
        "datasets: {rafdb: {name: rafdb, source: faces}, jaffe: {name: jaffe, source: jaffe}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_data_set_is_scored_by_the_names_of_its_expressions(study: Path) -> None:
    cross.run(Namespace())
    found = json.loads((study / "reports/cross.json").read_text())["cnn"]
    assert {key: found[key]["images"] for key in found} == {"rafdb": 14, "jaffe": 21}
    assert found["rafdb"]["classes"] == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    assert [sum(row) for row in found["rafdb"]["confusion"]] == [2] * 7
    network, config = loading.load(study / "models/cnn-0")
    from pipeline.datasets import opened

    with opened("jaffe", "jaffe") as (_, collection):
        pixels = torch.stack([torch.tensor(image.pixels()) for image in collection.images])
        labels = torch.tensor([trees.FER2013.index(image.label) for image in collection.images])
    logits = forward.predict(network, packed.Images(pixels, labels), loading.image_format(config), torch.device("cpu"))
    assert found["jaffe"]["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    table = (study / "reports/cross/cross.md").read_text()
    assert f"{found['jaffe']['accuracy']:.4f} ({found['jaffe']['macro_f1']:.4f})" in table
    assert (study / "reports/cross/cross.svg").exists()
    cross.run(Namespace())
    looked = {look.images: look for look in looks.merged(looks.read(study / looks.COMMITTED))}
    rafdb, jaffe = looks.of_data_set("rafdb"), looks.of_data_set("jaffe")
    assert looked.keys() == {rafdb, jaffe}
    shown = dataclasses.replace(looked[jaffe], weights="w", images="i", when="9999-01-01T00:00:00+00:00")
    before = looks.earlier([*looked.values(), shown], ["w"], "rafdb")
    assert before is not None
    assert before.looks == [looked[rafdb]], "a study of that data set tells of it"


def test_other_weights_and_unknown_expressions_are_refused(study: Path) -> None:
    path = study / "cross.yaml"
    content = path.read_text()
    sha256 = model(study / "models/few-0", trees.FER2013[:6])
    path.write_text(f"models: {{few: {{path: models/few-0, sha256: '{sha256}'}}}}\n" + content.split("\n", 1)[1])
    with pytest.raises(StageError, match=r"cross: few on rafdb: the model knows no class 'neutral'; it has anger,"):
        cross.run(Namespace())
    path.write_text(path.read_text().replace(sha256, "0" * 64))
    with pytest.raises(StageError, match=rf"models\.few\.sha256: the weights in models/few-0 have {sha256}"):
        cross.run(Namespace())
