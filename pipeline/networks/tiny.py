"""Tiny CNNs written as lists of layers (Ethiraj and Bolla 2022, Tables 1 and 2): the layers, global average pooling, a
linear classifier without bias.

Lines such as `conv 8, dw 12, pool` follow one another. `conv 8` is a 3x3 convolution to 8 channels, BatchNorm, ReLU;
`dw 8` the same with a depthwise-separable pair (3x3 depthwise, 1x1 pointwise); `transition 8` a 1x1 convolution alone;
`pool` a 2x2 max-pool. `conv 8 skip` and `dw 8 skip` add the layer's input before the ReLU, which the paper has not.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import StageError


def build(
    *,
    layers: tuple[str, ...],
    classes: int,
    image_size: int,
    pretrained: bool | str = False,
    in_channels: int = 3,
    bias: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Images (N, in_channels, image_size, image_size) -> logits (N, classes); `bias` is that of every convolution."""
    if pretrained:
        raise StageError("pretrained: a tiny network has no published weights; choose false")
    stack: list[nn.Module] = []
    channels, side = in_channels, image_size
    for layer in ", ".join(layers).split(", "):
        kind, *words = layer.split()
        if kind == "pool":
            side //= 2
            if not side:
                raise StageError(f"layers: more pools than images of {image_size} pixels can be halved")
            stack.append(nn.MaxPool2d(2))
            continue
        width, skip = int(words[0]), "skip" in words
        if skip and width != channels:
            raise StageError(f"layers: {layer!r} follows {channels} channels; a skip needs as many in as out")
        if kind == "transition":
            stack.append(nn.Conv2d(channels, width, 1, bias=bias))
        else:
            stack.append(Layer(convolution(channels, width, bias, separable=kind == "dw"), width, skip))
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes, bias=False)]
    return nn.Sequential(*stack, *head)


class Layer(nn.Module):
    """Convolution, BatchNorm, and ReLU over the sum with the input where there is a skip."""

    def __init__(self, conv: nn.Module, width: int, skip: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.skip = conv, nn.BatchNorm2d(width), skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))  # (N, width, H, W)
        return F.relu(y + x) if self.skip else F.relu(y, inplace=True)


def convolution(channels: int, width: int, bias: bool, separable: bool) -> nn.Module:
    """3x3, same size: one dense convolution, or a depthwise one and a pointwise one (Howard et al. 2017)."""
    if not separable:
        return nn.Conv2d(channels, width, 3, padding=1, bias=bias)
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
    return nn.Sequential(depthwise, nn.Conv2d(channels, width, 1, bias=bias))
