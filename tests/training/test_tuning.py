"""A frozen backbone stays as it was, its features are computed once, and that changes no result."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images import form, packed
from pipeline.images.recipe import Recipe
from pipeline.images.recipe import recipe as recipe_recipe
from pipeline.inference import forward
from pipeline.params import faults
from pipeline.params.read import load_params
from pipeline.params.settings import Train
from pipeline.records import diary
from pipeline.training import record, task, tuning
from pipeline.training.fit import Trainer
from tests import small_study
from tests.trees import striped

CPU = torch.device("cpu")
FORM = form.Format(16, (0.5,) * 3, (0.25,) * 3)
PROTOCOL: dict[str, Any] = {
    **Train(epochs=3, batch_size=16, lr=0.05).model_dump(),
    "precision": "fp32",
    "tune": "head",
    "optimizer": "sgd",
}


def images(count: int, seed: int) -> packed.Images:
    import numpy as np

    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = np.stack([striped(label, 16, 16, 3, rng) for label in labels])
    return packed.Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def network() -> torch.nn.Module:
    settings = {"backbone": "resnet18", "args": {"channels": [4, 8, 8, 8]}, "dropout": 0.5}
    return networks.build("timm", name="net", classes=3, image_size=16, seed=0, **settings)


def recipe(strength: float = 0.0, flip: bool = False) -> Recipe:
    pipeline = {"crop": 0.3, "aspect": 0.1, "shift": 0.0, "rotate": 0, "jitter": 0.0, "erase": 0.0}
    settings = {"strength": strength, "flip": flip, "minority": "light", "cutout": 0, "mixup": 0.0}
    settings |= {"light": pipeline, "strong": pipeline}
    return recipe_recipe(FORM, ["a", "b", "c"], [], settings, True, CPU)


def fit(net: torch.nn.Module, reuse: bool = True, augment: Recipe | None = None, **protocol: Any) -> record.Fit:
    original = tuning.Tuning.__init__

    def init(self: tuning.Tuning, *values: Any) -> None:
        original(self, *values, reuse=reuse)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.Tuning, "__init__", init)
        return trainer(net, augment, **protocol).run()


def trainer(net: torch.nn.Module, augment: Recipe | None = None, **protocol: Any) -> Trainer:
    return Trainer(
        net,
        images(45, 0),
        images(21, 1),
        augment or recipe(),
        {**PROTOCOL, **protocol},
        classes=3,
        seed=1,
        device=CPU,
    )


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key for key in before if not before[key].equal(after[key])}


def start(net: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def test_features_that_are_reused_give_what_a_pass_at_every_step_gives() -> None:
    """The dropout before the head is off, as all of a frozen part."""
    fast, slow = fit(network()), fit(network(), reuse=False)
    for one, other in zip(fast.history, slow.history, strict=True):
        assert dataclasses.asdict(one) == pytest.approx(dataclasses.asdict(other), rel=1e-4)
    for key in fast.weights:
        torch.testing.assert_close(fast.weights[key], slow.weights[key], rtol=1e-4, atol=1e-6)


def test_of_images_that_are_scored_in_several_views_no_features_are_reused() -> None:
    """Those of one view would choose the epoch by another score than the one that is reported."""
    how = recipe()
    mirrored = dataclasses.replace(how, format=dataclasses.replace(how.format, views=2))
    net = network()
    found = fit(net, augment=mirrored)
    net.load_state_dict(found.weights)
    data = images(21, 1)
    right = forward.predict(net, data, mirrored.format, CPU).argmax(1) == data.labels
    assert found.selected.val_accuracy == pytest.approx(right.float().mean().item())


@pytest.mark.parametrize("reuse", [True, False])
def test_a_frozen_backbone_keeps_weights_and_batchnorms_statistics(reuse: bool) -> None:
    net = network()
    before = start(net)
    found = fit(net, reuse, weight_decay=0.1)
    assert moved(before, found.weights) == {"fc.weight", "fc.bias"}
    assert found.history[-1].train_loss < found.history[0].train_loss


def test_the_backbone_is_passed_once_where_augmentation_changes_nothing() -> None:
    for augment, passes in ((recipe(), 45 + 21), (recipe(flip=True, strength=1.0), 3 * (45 + 21))):
        net, seen = network(), []
        net.conv1.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        fit(net, augment=augment)
        assert sum(seen) == passes


def test_the_head_comes_first_and_then_everything_at_a_reduced_rate() -> None:
    net = network()
    before = start(net)
    first: dict[str, Tensor] = {}
    rates: list[float] = []

    def on_epoch(epoch: diary.Epoch) -> None:
        rates.append(epoch.lr)
        if epoch.epoch == 1:
            first.update(start(net))

    protocol = {"tune": "head_then_full", "head_epochs": 1, "full_lr_factor": 0.1, "schedule": "constant"}
    found = trainer(net, **protocol, select="last").run(on_epoch)
    assert moved(before, first) == {"fc.weight", "fc.bias"}
    assert {"conv1.weight", "bn1.running_mean", "fc.weight"} <= moved(first, found.weights)
    assert rates == pytest.approx([0.05, 0.005, 0.005])


@pytest.mark.parametrize("backbone", ["resnetv2_50x1_bit", "coatnet_1_rw_224", "vit_small_patch16_224", "resnet50"])
def test_the_head_of_the_papers_networks_is_a_layer_of_as_many_outputs_as_classes(backbone: str) -> None:
    import timm

    with torch.device("meta"):
        head = networks.head(timm.create_model(backbone, num_classes=257))
    assert head.weight.shape[0] == 257
    logits = tuning._Flat(head)(torch.zeros(2, *head.weight.shape[1:], device="meta"))
    assert logits.shape == (2, 257)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"tune": "head", "select": "average"}, "BatchNorm"),
        ({"tune": "head_then_full", "head_epochs": 25}, "head_epochs: 25 leaves none of 25"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(train: dict, message: str) -> None:
    from ruamel.yaml import YAML

    from tests.trees import ROOT

    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    content["models"]["cnn"]["train"] = train
    with contextlib.suppress(KeyError):
        del content["models"]["hybrid"]
    with pytest.raises(StageError, match=message):
        faults.parse(content)


def test_a_study_trains_a_head_through_its_stages(tmp_path: Path) -> None:
    """A frozen backbone, a crop, a policy and a fraction of the images, from params.yaml to the evaluation."""
    models = {
        "net": {
            "family": "timm",
            "backbone": "resnet18",
            "args": {"channels": [4, 8, 8, 8]},
            "train_fraction": 0.2,
            "augment": {"crop_size": 12, "crop_of": 14, "policy": "cifar10", "pca": 0.1},
            "train": {"tune": "head_then_full", "head_epochs": 1, "epochs": 2, "schedule": "step"},
        }
    }
    folder = small_study.run(tmp_path, {"replicates": [0]}, models, trained=("net-0",))
    evaluation = json.loads((folder / "reports/evaluations/net-0.json").read_text())
    whole = sum(row["train"] for row in json.loads((folder / "reports/data.json").read_text())["classes"])
    assert evaluation["train_images"] == pytest.approx(whole / 5, abs=10)
    assert evaluation["overrides"]["train_fraction"] == 0.2
    study, info = load_params(folder / "params.yaml"), packed.read_info(folder / "data/fit/0")
    resolved = [task.resolve(study, "net", 0, {**info, "seed": seed}) for seed in (0, 1)]
    assert resolved[0] != resolved[1], "another seed of the split draws other images"
    assert evaluation["scores"]["top5_accuracy"] >= evaluation["scores"]["accuracy"]
