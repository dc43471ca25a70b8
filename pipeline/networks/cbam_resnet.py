"""The ResNet of Wen et al., "Facial Expression Recognition Method Based on Convolution Neural Network Combining
Attention Mechanism", Figure 6: 17 convolutions of 3x3, eight residual blocks, average pooling of 4x4 with stride 4, a
linear classifier; CBAM in every block, before the sum.

For 44x44 images: nothing samples down before the second pair of blocks, and 6x6 maps are left for the pooling. The
paper does not draw the shortcuts where the size changes: 1x1 convolutions here, as in He et al. 2016.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.networks.cbam import CBAM

LEVELS = 4  # of two blocks each
POOL = 4


def build(
    *,
    classes: int,
    image_size: int,
    attention: Literal["none", "channel_first", "spatial_first", "parallel"] = "channel_first",
    width: int = 64,
    reduction: int = 16,
    in_channels: int = 3,
    pretrained: bool | str = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Images (N, in_channels, image_size, image_size) -> logits (N, classes); `width` channels, doubled three times."""
    if pretrained:
        raise StageError(
            "pretrained: a cbam_resnet has no published weights; choose false, or {path, sha256} of a file"
        )
    pooled, channels = pooled_side(image_size), width
    blocks: list[nn.Module] = []
    for level in range(LEVELS):
        for block in range(2):
            stride, wide = 2 if level and not block else 1, width * 2**level
            gate = nn.Identity() if attention == "none" else CBAM(wide, attention, reduction)
            blocks.append(Block(channels, wide, stride, gate))
            channels = wide
    return nn.Sequential(
        convolution(in_channels, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *blocks,
        nn.AvgPool2d(POOL, POOL),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels * pooled**2, classes),
    )


def pooled_side(image_size: int) -> int:
    """The side of the map that the classifier reads, of images of this side; raises StageError where none is left."""
    side = image_size
    for _ in range(LEVELS - 1):
        side = -(-side // 2)
    if side < POOL:
        least = (POOL - 1) * 2 ** (LEVELS - 1) + 1
        raise StageError(f"family: a cbam_resnet needs images of {least} pixels or more, got {image_size}")
    return side // POOL


class Block(nn.Module):
    """Two 3x3 convolutions, CBAM, and ReLU over the sum with the input."""

    def __init__(self, channels: int, width: int, stride: int, gate: nn.Module) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.gate = gate
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(convolution(channels, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)  # (N, width, H, W)
        return F.relu(self.gate(self.norm2(self.conv2(y))) + self.shortcut(x))


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
