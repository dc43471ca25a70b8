"""The hybrid's tokens, pooling and positions are what its settings say."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks.hybrid import Hybrid

POOLS = ["attention", "mean", "max", "class_token"]
SMALL = {"channels": [8, 8, 16, 16]}  # a thin ResNet18


def build(**settings: Any) -> Hybrid:
    given = {"name": "m", "classes": 7, "image_size": 64, "seed": 0, "pretrained": False, "backbone": "resnet18"}
    given |= {"dim": 32, "depth": 1, "heads": 4, "args": SMALL}
    network = networks.build("hybrid", **{**given, **settings})
    assert isinstance(network, Hybrid)
    return network


def pictures(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def tokens(network: Hybrid, size: int = 64) -> torch.Tensor:
    return network.tokens(network.features(pictures(size))[-1])


@pytest.mark.parametrize(("level", "side"), [(0, 32), (1, 16), (2, 8), (3, 4), (4, 2)])
def test_the_feature_level_sets_the_number_of_tokens(level: int, side: int) -> None:
    network = build(feature_level=level)
    assert tokens(network).shape == (2, side**2, 32)
    assert network.position.shape == (1, side**2, 32)


@pytest.mark.parametrize(("level", "grid"), [(2, 1), (2, 3), (2, 7), (3, 3), (4, 2)])
def test_the_token_grid_sets_the_number_of_tokens_at_any_level_and_size(level: int, grid: int) -> None:
    network = build(feature_level=level, token_grid=grid)
    assert tokens(network).shape == (2, grid**2, 32)
    assert network(pictures(96)).shape == (2, 7)


def test_a_grid_finer_than_the_map_is_refused_for_it_would_only_repeat_tokens() -> None:
    with pytest.raises(StageError, match="token_grid 7 is more than the feature map of 2 x 2 has a side"):
        build(feature_level=4, token_grid=7)


def test_a_grid_of_the_maps_own_size_changes_nothing() -> None:
    assert_close(tokens(build(feature_level=3)), tokens(build(feature_level=3, token_grid=4)))


def test_tokens_are_the_map_row_by_row_through_the_projection() -> None:
    network = build(feature_level=3)
    feature_map = network.features(pictures())[-1]
    wanted = nn.functional.linear(feature_map[:, :, 1, 2], network.project.weight[:, :, 0, 0], network.project.bias)
    assert_close(tokens(network)[:, 1 * 4 + 2], wanted)


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_gives_logits_and_the_class_token_is_one_more(pool: str) -> None:
    network = build(pool=pool, feature_level=3)
    assert network(pictures()).shape == (2, 7)
    assert tokens(network).shape == (2, 16 + (pool == "class_token"), 32)


def test_pools_are_mean_maximum_and_first() -> None:
    sequence = torch.randn(2, 9, 32)
    assert_close(build(pool="mean")._pool(sequence), sequence.mean(1))
    assert_close(build(pool="max")._pool(sequence), sequence.max(1).values)
    assert_close(build(pool="class_token")._pool(sequence), sequence[:, 0])


def test_attention_pooling_is_the_mean_where_scores_are_equal_and_one_token_where_one_has_it_all() -> None:
    network, sequence = build(pool="attention"), torch.randn(2, 9, 32)
    nn.init.zeros_(network.score.weight)
    assert_close(network._pool(sequence), sequence.mean(1))
    nn.init.ones_(network.score.weight)
    sequence[:, 4] += 100
    assert_close(network._pool(sequence), sequence[:, 4])


def test_the_position_takes_its_size_from_the_first_forward_pass_and_then_keeps_it() -> None:
    features = timm.create_model("resnet18", features_only=True, out_indices=(3,), channels=SMALL["channels"])
    network = Hybrid(features, 16, 7, dim=32, depth=1, heads=4).eval()
    assert nn.parameter.is_lazy(network.position)
    network(pictures(96))
    assert network.position.shape == (1, 36, 32)
    assert 0.01 < network.position.std() < 0.03
    before = network.position.detach().clone()
    network(pictures(96))
    assert network.position.equal(before)
    with pytest.raises(ValueError, match="positional embedding for 36 tokens, got 16: images of another size"):
        network(pictures(64))


def test_the_position_of_a_built_network_is_a_parameter_to_train_and_to_save() -> None:
    network = build()
    assert "position" in network.state_dict()
    assert network.position.requires_grad
    network.train()(pictures()).sum().backward()
    assert network.position.grad.abs().sum() > 0
    again = build(seed=1)
    again.load_state_dict(network.state_dict())
    assert_close(again.eval()(pictures()), network.eval()(pictures()))


def test_one_seed_gives_one_network_and_another_another() -> None:
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    for key, value in first.state_dict().items():
        assert value.equal(again.state_dict()[key])
    for key in ("position", "project.weight", "head.weight"):
        assert not first.state_dict()[key].equal(other.state_dict()[key])


def test_parameters_agree_with_a_count_by_hand() -> None:
    network = build(image_size=224, dim=256, depth=4, heads=8, feature_level=4, args={})
    convolutions = sum(p.numel() for p in timm.create_model("resnet18", num_classes=0).parameters())
    norm = 2 * 256
    attention = 3 * (256 * 256 + 256) + (256 * 256 + 256)
    mlp = (256 * 1024 + 1024) + (1024 * 256 + 256)
    encoder = 4 * (norm + attention + norm + mlp) + norm
    tokens = (512 * 256 + 256) + 7 * 7 * 256
    score, head = 256 + 1, 256 * 7 + 7
    assert convolutions == 11_689_512 - (512 * 1000 + 1000)
    assert sum(p.numel() for p in network.parameters()) == convolutions + tokens + encoder + score + head


def test_depth_mlp_ratio_dropout_and_drop_path_reach_the_encoder() -> None:
    network = build(depth=3, mlp_ratio=2.0, dropout=0.25, drop_path=0.2)
    assert len(network.blocks) == 3
    assert network.blocks[0].mlp.fc1.out_features == 64
    assert network.head_dropout.p == network.position_dropout.p == network.blocks[0].mlp.drop1.p == 0.25
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.blocks] == pytest.approx([0, 0.1, 0.2])
    inert = build().train()
    assert_close(inert(pictures()), inert(pictures()))


@pytest.mark.parametrize("level", [5, 9])
def test_a_level_that_the_backbone_does_not_have_is_refused(level: int) -> None:
    with pytest.raises(StageError) as fault:
        build(feature_level=level)
    wanted = f"params.yaml: models.m.feature_level: resnet18 has no level {level}; choose a smaller one"
    assert str(fault.value) == wanted


def test_another_backbone_gives_its_own_channels() -> None:
    network = build(backbone="mobilenetv3_small_050", args={}, feature_level=3)
    assert network.project.in_channels == network.features.feature_info.channels()[-1] == 24
    assert tokens(network).shape == (2, 16, 32)
