"""Settings that are said to be read by nothing change nothing, and change something where they are read."""

from typing import Any

import pytest
import torch

from pipeline import networks
from pipeline.images.form import sides
from pipeline.networks.angular import add_angular
from pipeline.params import registry
from pipeline.params.inert import READ, inert
from pipeline.params.read import load_params
from pipeline.params.settings import SECTIONS
from tests import trees
from tests.training.test_fit import CLASSES, fit, images, recipe, tiny

OTHER = {  # a key of `train` -> another value than that of the tests' protocol, and settings under which it is read
    "step_epochs": (2, {"schedule": "step"}),
    "gamma": (0.5, {"schedule": "step"}),
    "warmup_epochs": (1, {"schedule": "constant"}),
    "focal_gamma": (0.5, {"loss": "focal"}),
    "margin_m": (2.0, {"margin": "a_softmax"}),
    "margin_floor": (1000.0, {"margin": "a_softmax"}),
    "average": ("ema", {"select": "average"}),
    "average_start": (0.0, {"select": "average"}),
    "ema_decay": (0.1, {"select": "average", "average": "ema"}),
    "head_epochs": (2, {"tune": "head_then_full"}),
    "full_lr_factor": (0.5, {"tune": "head_then_full"}),
}
UNDER = ({}, {"schedule": "onecycle"}, {"select": "average"}, {"select": "average", "average": "ema"})


def trained(**changes: Any) -> list[torch.Tensor]:
    network = tiny()
    if changes.get("margin", "none") != "none":
        add_angular(network, CLASSES, 0.0)
    few = images((6, 6, 6))
    return list(fit(network, train=few, val=few, strength=0.0, **changes).weights.values())


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))


@pytest.mark.parametrize("settings", [*UNDER, *(settings for _, settings in OTHER.values())], ids=str)
def test_a_setting_changes_a_training_where_it_is_read_and_not_where_it_is_inert(settings: dict[str, Any]) -> None:
    """All inert ones at once, and of those that are read the one that these settings are for."""
    unread = inert("train", {"schedule": "cosine", **settings})
    plain = trained(**settings)
    assert same(plain, trained(**settings, **{key: value for key, (value, _) in OTHER.items() if key in unread}))
    for key, (value, under) in OTHER.items():
        if under == settings:
            assert key not in unread
            assert not same(plain, trained(**settings, **{key: value}))


def test_the_length_of_features_is_read_by_arcface_alone() -> None:
    study = load_params(trees.ROOT / "params.yaml")

    def built(margin: str, scale: float) -> dict[str, Any]:
        train = study.train.model_copy(update={"margin": margin, "margin_m": 1.0, "margin_scale": scale})
        return study.model_copy(update={"train": train}).network("cnn")

    for margin in ("none", "a_softmax", "arcface"):
        equal = built(margin, 10.0) == built(margin, 20.0)
        assert equal == ("margin_scale" in inert("train", {"margin": margin}))


def test_what_teaches_is_no_setting_of_a_training_without_a_teacher() -> None:
    taught = {key for key in READ["train"] if key.startswith("teacher_")}
    train = load_params(trees.ROOT / "params.yaml").train
    assert taught <= inert("train", train.model_dump())
    assert taught.isdisjoint(train.plain())
    assert taught.isdisjoint(inert("train", {"teacher": "cnn"}))


def test_without_strength_no_augmentation_is_read_and_crops_alone_are_brought_to_another_size() -> None:
    pipeline = {"crop": 0.5, "aspect": 0.3, "shift": 0.2, "rotate": 90.0, "jitter": 0.5, "erase": 0.5}
    more = {"flip": False, "cutout": 8, "mixup": 0.4, "pca": 0.1, "policy": "cifar10", "minority": "light"}
    changes = {**more, "light": pipeline, "strong": pipeline}
    assert changes.keys() <= inert("augment", {"strength": 0})
    assert inert("augment", {"strength": 1.0}) == {"crop_of"}
    assert inert("augment", {"strength": 1.0, "minority": "light", "crop_size": 8}) == {"strong"}
    ours, theirs = recipe(0.0), recipe(0.0, **changes)
    for name in ("flip", "used", "techniques", "mixup", "policy", "pca"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert torch.equal(ours.amplitudes, theirs.amplitudes)
    assert sides(32, {"crop_of": 40}) == sides(32, {})
    assert sides(32, {"crop_of": 40, "crop_size": 24}) != sides(32, {"crop_size": 24})


def test_cbams_reduction_is_read_where_there_is_attention() -> None:
    def shapes(attention: str, reduction: int) -> dict[str, torch.Size]:
        network = networks.builder("cbam_resnet")(
            classes=2, image_size=32, attention=attention, width=4, reduction=reduction
        )
        return {key: value.shape for key, value in network.state_dict().items()}

    for attention in ("none", "parallel"):
        equal = shapes(attention, 2) == shapes(attention, 4)
        assert equal == ("reduction" in inert("model", {"attention": attention, "reduction": 2}))


def test_every_key_is_one_that_there_is() -> None:
    for part, keys in READ.items():
        if part in SECTIONS:
            needed = {need.key for needs in keys.values() for need in needs}
            assert keys.keys() | needed <= SECTIONS[part].model_fields.keys()
    assert {need.among for need in READ["train"]["focal_gamma"]} == {("focal",)}
    assert {"focal", "step"} <= {*registry.LOSSES, *registry.SCHEDULES}
