"""CBAM gates channels and places as timm's module does, in the three orders."""

import pytest
import torch
from timm.layers.cbam import CbamModule
from torch import Tensor
from torch.testing import assert_close

from pipeline.networks.cbam import CBAM


def pair(order: str = "channel_first", channels: int = 32) -> tuple[CBAM, CbamModule]:
    """Ours, and timm's with the same weights and statistics; both in evaluation."""
    torch.manual_seed(0)
    ours, timms = CBAM(channels, order), CbamModule(channels)  # type: ignore[arg-type]
    ours.spatial.norm.running_mean.fill_(0.3)
    ours.spatial.norm.running_var.fill_(0.7)
    with torch.no_grad():
        timms.channel.fc1.weight.copy_(ours.channel.squeeze.weight[:, :, None, None])
        timms.channel.fc2.weight.copy_(ours.channel.expand.weight[:, :, None, None])
        timms.spatial.conv.conv.weight.copy_(ours.spatial.weight)
    timms.spatial.conv.bn.load_state_dict(ours.spatial.norm.state_dict())
    return ours.eval(), timms.eval()


def maps(channels: int = 32) -> Tensor:
    return torch.randn(3, channels, 9, 7, generator=torch.Generator().manual_seed(1))


def test_channel_first_is_timms_module() -> None:
    ours, timms = pair()
    assert_close(ours(maps()), timms(maps()))


def test_spatial_first_is_timms_two_gates_in_the_other_order() -> None:
    ours, timms = pair("spatial_first")
    assert_close(ours(maps()), timms.channel(timms.spatial(maps())))


def test_parallel_takes_both_gates_from_the_input() -> None:
    ours, timms = pair("parallel")
    x = maps()
    assert_close(ours(x), timms.channel(x) * (timms.spatial(x) / x))


def test_the_orders_differ() -> None:
    x = maps()
    found = [pair(order)[0](x) for order in ("channel_first", "spatial_first", "parallel")]
    assert not any(torch.allclose(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("order", ["channel_first", "spatial_first", "parallel"])
def test_a_gate_of_zero_weights_halves_twice(order: str) -> None:
    module = CBAM(8, order).eval()  # type: ignore[arg-type]
    for parameter in (module.channel.expand.weight, module.spatial.weight):
        torch.nn.init.zeros_(parameter)
    assert_close(module(maps(8)), maps(8) / 4)


def test_few_channels_keep_one_in_the_squeeze() -> None:
    assert CBAM(4, "parallel").channel.squeeze.out_features == 1
