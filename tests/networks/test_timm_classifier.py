"""A timm network is timm's own, initialised from the seed, with its faults told in terms of params.yaml."""

import re
from typing import Any

import pytest
import timm
import torch
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError

PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(backbone: str = "resnet18", **settings: Any) -> torch.nn.Module:
    given = {"family": "timm", "name": "m", "classes": 7, "image_size": 32, "seed": 0, "pretrained": False}
    return networks.build(**{**given, "backbone": backbone, **settings})


def test_it_is_timms_network_with_a_head_of_so_many_classes() -> None:
    network = build()
    oracle = timm.create_model("resnet18", num_classes=7).eval()
    oracle.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert_close(network(PICTURES), oracle(PICTURES), rtol=0, atol=0)
    assert network(PICTURES).shape == (2, 7)


def test_dropout_drop_path_and_args_reach_timm() -> None:
    network = build(dropout=0.25, drop_path=0.1, args={"channels": [8, 16, 32, 64]})
    assert network.drop_rate == 0.25
    assert max(getattr(module, "drop_prob", 0) or 0 for module in network.modules()) == pytest.approx(0.1)
    assert network.fc.in_features == 64


def test_a_network_without_drop_path_takes_none() -> None:
    assert build("regnetx_002", dropout=0.1).head.drop.p == 0.1
    with pytest.raises(StageError, match=r"models\.m: cannot be built .* 'drop_path_rate'"):
        build("vgg11", drop_path=0.1)


def test_one_seed_gives_one_network_and_another_another() -> None:
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    for key, value in first.state_dict().items():
        assert value.equal(again.state_dict()[key])
    assert not first.conv1.weight.equal(other.conv1.weight)
    assert not first.fc.weight.equal(other.fc.weight)


@pytest.mark.parametrize("family", ["timm", "hybrid"])
def test_building_leaves_the_global_generator_alone(family: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build(family=family)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(6)
    assert build(seed=3).conv1.weight.equal(build(seed=3).conv1.weight)


def test_a_vit_is_made_for_the_image_size_of_the_study() -> None:
    network = build("vit_small_patch16_224", args={"patch_size": 4, "embed_dim": 96, "depth": 2, "num_heads": 3})
    assert network.pos_embed.shape == (1, 1 + 8 * 8, 96)
    assert network(PICTURES).shape == (2, 7)
    assert build("vit_small_patch16_224", args={"depth": 1}, image_size=48).pos_embed.shape == (1, 1 + 3 * 3, 384)


def test_initialisation_in_words() -> None:
    assert networks.initialisation(build(), {"network": {"pretrained": False}}) == "from scratch"


@pytest.mark.parametrize("family", ["timm", "hybrid"])
@pytest.mark.parametrize("backbone", ["resnet18x", "resnet-18", "ResNet18"])
def test_an_unknown_backbone_is_refused_with_names_that_are_near(family: str, backbone: str) -> None:
    with pytest.raises(StageError) as fault:
        build(backbone, family=family)
    found = re.fullmatch(
        rf"params\.yaml: models\.m\.backbone: timm has no '{backbone}'; did you mean (.*)\? timm\.list_models\(\) names"
        r" them all",
        str(fault.value),
    )
    assert found
    near = found[1].split(" or ")
    assert "resnet18" in near
    assert all(timm.is_model(name) for name in near)


@pytest.mark.parametrize("backbone", ["", "zzzzzz"])
def test_a_name_that_is_near_nothing_is_refused_all_the_same(backbone: str) -> None:
    with pytest.raises(StageError, match=rf"models\.m\.backbone: timm has no '{backbone}'; timm\.list_models"):
        build(backbone)


def test_an_unknown_tag_of_a_known_backbone_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"models\.m\.backbone: timm has no weights 'zzz' of resnet18; .* a1_in1k, a2_in1k"
    ):
        build("resnet18.zzz")


@pytest.mark.parametrize("family", ["timm", "hybrid"])
@pytest.mark.parametrize(
    ("backbone", "args", "reason"),
    [
        ("resnet18", {"zzz": 1}, "unexpected keyword argument 'zzz'"),
        ("resnet18", {"block_args": 3}, "must be a mapping, not int"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_reason(
    family: str, backbone: str, args: dict, reason: str
) -> None:
    with pytest.raises(
        StageError, match=rf"^params\.yaml: models\.m: cannot be built for images of 32 pixels: .*{reason}"
    ):
        build(backbone, family=family, args=args)


def test_a_network_may_take_grey_images() -> None:
    network = build(args={"in_chans": 1, "channels": [8, 8, 16, 16]})
    assert networks.channels(network) == 1
    assert network(PICTURES[:, :1]).shape == (2, 7)


def test_a_width_that_heads_do_not_divide_is_refused_with_the_reason() -> None:
    with pytest.raises(StageError, match=r"models\.m: cannot be built .*divisible by num_heads"):
        build("vit_small_patch16_224", args={"embed_dim": 97})
