"""The study of CBAM and A-Softmax on generated faces: its own settings, narrower and for one epoch."""

import base64
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests import small_study, trees


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.stages import fetch, split
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train
    from pipeline.tracking import runs

    folder = tmp_path_factory.mktemp("cbam")
    content: Any = YAML(typ="safe").load((trees.ROOT / "studies/fer2013_cbam/params.yaml").read_text())
    source = trees.fer2013_folders(folder / "source", train=4, val=2, test=2)
    trees.put_settings(content, {"dataset.source": str(source), "train.epochs": 1, "train.device": "cpu"})
    content["models"] = {name: {**content["models"][name], "width": 2} for name in ("resnet", "cbam", "parallel")}
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(content, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "training_run", "evaluation_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
        fetch.main()
        split.main()
        for name in ("resnet", "cbam"):
            train(name, 0)
            evaluate(f"{name}-0")
    return folder


def test_a_margin_gives_a_classifier_by_angle_that_is_loaded_again(study: Path) -> None:
    from pipeline.inference import loading
    from pipeline.networks.angular import Angular

    networks = {name: loading.load(study / f"models/{name}-0")[0] for name in ("resnet", "cbam")}
    found = {name: sum(isinstance(part, Angular) for part in network.modules()) for name, network in networks.items()}
    assert found == {"resnet": 0, "cbam": 1}


def test_images_of_32_pixels_are_seen_as_ten_crops_of_28(study: Path) -> None:
    from pipeline.inference import loading

    _, config = loading.load(study / "models/cbam-0")
    form = loading.image_format(config)
    assert (form.whole, form.size, form.views, form.channels) == (32, 28, 10, 1)


def test_every_test_image_is_scored_and_no_face_leaves_the_study(study: Path) -> None:
    evaluation = json.loads((study / "reports/evaluations/cbam-0.json").read_text())
    assert evaluation["images"] == 14
    assert evaluation.get("mistakes", []) == []
    assert json.loads((study / "data/test/0/info.json").read_text())["shareable"] is False


def test_mistakes_are_the_surest_of_the_classes_confused_most() -> None:
    import torch

    from pipeline.images import packed
    from pipeline.stages.evaluate import mistakes

    labels = torch.tensor([0, 0, 1, 1, 2])
    probabilities = np.array([[0.1, 0.9, 0], [0.4, 0.6, 0], [0, 1, 0], [0.7, 0.3, 0], [0, 0.2, 0.8]])
    pixels = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 4, 4, 1) * 10
    confusion = np.array([[0, 2, 0], [1, 1, 0], [0, 0, 1]])
    images = packed.Images(pixels.contiguous(), labels)
    for pairs in (1, 4):  # there is one pair that is confused
        found = mistakes(images, confusion, probabilities, ["a", "b", "c"], pairs)
        assert [(each.actual, each.predicted) for each in found] == [("b", "a"), ("a", "b")]
        values = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each.png)))).max() for each in found]
        assert values == [30, 0]
