"""Squeeze-and-excite stands after every convolution, and scales its channels by what it found in all of the map."""

import copy
from typing import Any

import pytest
import torch
from timm.layers.squeeze_excite import SqueezeExcite
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.base.errors import StageError
from pipeline.networks.squeeze_excite import add_squeeze_excite
from tests.networks.test_blurpool import HYBRID, RESNET, TINY, VIT, build, pictures

MODELS = pytest.mark.parametrize("model", [TINY, RESNET, HYBRID], ids=["tiny", "resnet", "hybrid"])


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """Those that a block follows, in order."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups == 1]


def blocks(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, SqueezeExcite)]


def gated(network: nn.Module, ratio: float, bias: float) -> nn.Module:
    """A copy with blocks whose gates are all sigmoid(bias)."""
    found = copy.deepcopy(network)
    add_squeeze_excite(found, ratio)
    for block in blocks(found):
        nn.init.zeros_(block.fc2.weight)
        nn.init.constant_(block.fc2.bias, bias)
    return found.eval()


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(pictures())


@MODELS
def test_every_dense_convolution_gets_a_block_of_its_share_of_channels(model: dict[str, Any]) -> None:
    plain, excited = build(model), build(model, squeeze_excite=0.25)
    widths = [conv.out_channels for conv in convolutions(plain)]
    kept = [max(1, round(width / 4)) for width in widths]
    assert [block.fc1.out_channels for block in blocks(excited)] == kept
    added = sum(2 * width * few + few + width for width, few in zip(widths, kept, strict=True))
    count, before = (sum(value.numel() for value in network.parameters()) for network in (excited, plain))
    assert count == before + added
    assert logits(excited).shape == (2, 5)


def test_the_squeeze_keeps_one_channel_at_least() -> None:
    assert {block.fc1.out_channels for block in blocks(build(TINY, squeeze_excite=0.01))} == {1}
    assert {block.fc1.out_channels for block in blocks(build(TINY, squeeze_excite=1.0))} == {16}


@MODELS
def test_gates_that_are_all_open_leave_the_network_as_it_was(model: dict[str, Any]) -> None:
    plain = build(model)
    assert_close(logits(gated(plain, 0.25, bias=100.0)), logits(plain))


@MODELS
def test_blocks_with_zero_weights_halve_every_convolution(model: dict[str, Any]) -> None:
    plain = build(model)
    found = logits(gated(plain, 0.25, bias=0.0))
    with torch.no_grad():
        for conv in convolutions(plain):
            conv.weight *= 0.5
            if conv.bias is not None:
                conv.bias *= 0.5
    assert_close(found, logits(plain))


def test_a_gate_is_the_papers_sigmoid_of_two_layers_over_the_maps_means() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    add_squeeze_excite(network, 0.5)
    conv, block = network[0]
    x = conv(pictures(12))
    squeezed = x.mean((2, 3))  # (N, C)
    hidden = torch.relu(squeezed @ block.fc1.weight[:, :, 0, 0].T + block.fc1.bias)
    gates = torch.sigmoid(hidden @ block.fc2.weight[:, :, 0, 0].T + block.fc2.bias)
    assert_close(network(pictures(12)), x * gates[:, :, None, None])


def test_it_goes_together_with_blurpool() -> None:
    network = build(TINY, blurpool=True, squeeze_excite=0.25)
    assert len(blocks(network)) == len(convolutions(build(TINY)))
    assert logits(network).isfinite().all()


def test_a_network_without_convolutions_is_refused_in_one_line() -> None:
    """Cutting an image into patches is none."""
    with pytest.raises(StageError) as fault:
        build(VIT, squeeze_excite=0.25)
    assert str(fault.value) == (
        "params.yaml: models.m.squeeze_excite: this network has no convolutions to follow; choose 0"
    )
