"""The network of the paper's Figure 6: layers, shapes, parameters; and it learns."""

from typing import Any

import pytest
import torch
from timm.layers.squeeze_excite import SqueezeExcite
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks.cbam import CBAM
from pipeline.networks.cbam_resnet import Block

ORDERS = ("channel_first", "spatial_first", "parallel")


def build(**settings: Any) -> nn.Module:
    given = {"name": "m", "classes": 7, "image_size": 44, "seed": 0, "width": 4}
    return networks.build("cbam_resnet", **{**given, **settings})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def outputs(network: nn.Module, kind: type, images: Tensor) -> list[tuple[int, ...]]:
    """Shapes (C, H, W) that modules of a kind give, in order."""
    shapes: list[tuple[int, ...]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
        for module in network.modules()
        if isinstance(module, kind)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return shapes


def test_without_attention_it_is_resnet18_for_small_images() -> None:
    """He et al.'s with a 3x3 stem, whose parameters are known: 11,173,962 with a classifier of ten classes."""
    assert parameters(build(attention="none", width=64, classes=10)) == 11_173_962
    assert parameters(build(attention="none", width=64)) == 11_173_962 - 3 * 513


@pytest.mark.parametrize("order", ORDERS)
def test_attention_adds_the_two_gates_of_eight_blocks(order: str) -> None:
    wide = [64, 64, 128, 128, 256, 256, 512, 512]
    gates = sum(2 * width * (width // 16) + 2 * 7 * 7 + 2 for width in wide)
    assert gates == 87_840
    assert parameters(build(attention=order, width=64)) == parameters(build(attention="none", width=64)) + gates


def test_it_has_the_layers_of_figure_6() -> None:
    network = build(width=8, in_channels=1)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(module.kernel_size == (3, 3) for module in convolutions) == 17
    images = torch.zeros(1, 1, 44, 44)
    sides = (44, 44, 22, 22, 11, 11, 6, 6)
    channels = (8, 8, 16, 16, 32, 32, 64, 64)
    shapes = [(wide, side, side) for wide, side in zip(channels, sides, strict=True)]
    assert outputs(network, Block, images) == shapes
    assert outputs(network, CBAM, images) == shapes
    assert outputs(network, nn.AvgPool2d, images) == [(64, 1, 1)]
    assert outputs(network, nn.Linear, images)[-1] == (7,)


def test_larger_images_leave_more_than_one_place_to_the_classifier() -> None:
    assert build(image_size=64)(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_images_too_small_for_the_pooling_are_refused() -> None:
    with pytest.raises(StageError, match=r"models\.m\.family: a cbam_resnet needs images of 25 pixels or more, got 24"):
        build(image_size=24)
    assert build(image_size=25)(torch.zeros(2, 3, 25, 25)).shape == (2, 7)


def test_published_weights_there_are_none() -> None:
    with pytest.raises(StageError, match=r"models\.m\.pretrained: a cbam_resnet has no published weights"):
        build(pretrained=True)


@pytest.mark.parametrize("order", ["none", *ORDERS])
def test_the_switches_of_other_networks_work_and_leave_the_gates_alone(order: str) -> None:
    plain, excited = build(attention=order), build(attention=order, squeeze_excite=0.25)
    blurred = build(attention=order, blurpool=True, width=16)
    assert blurred(torch.zeros(2, 3, 44, 44)).shape == (2, 7)
    assert parameters(blurred) == parameters(build(attention=order, width=16))
    blocks = sum(isinstance(module, SqueezeExcite) for module in excited.modules())
    assert blocks == sum(isinstance(module, nn.Conv2d) for module in plain.modules()) == 20


@pytest.mark.parametrize("order", ["none", *ORDERS])
def test_it_learns(order: str) -> None:
    torch.manual_seed(0)
    network = build(attention=order, classes=2, image_size=28, in_channels=1).train()
    labels = torch.arange(16) % 2
    images = torch.randn(16, 1, 28, 28)
    images[labels == 1, :, :, ::2] += 2
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
