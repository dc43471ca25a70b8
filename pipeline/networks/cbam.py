"""CBAM, the convolutional block attention module (Woo et al. 2018, arXiv:1807.06521), eqs. 2-3.

As timm's `CbamModule`: BatchNorm on the spatial gate, which the authors' code has too; no bias in the channel gate, as
in eq. 2. "parallel" takes both gates from the input and multiplies it by both; how they join, the paper leaves open.

Legend: N images, C channels, H height, W width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Order = Literal["channel_first", "spatial_first", "parallel"]


class CBAM(nn.Module):
    def __init__(self, channels: int, order: Order, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        self.order = order
        self.channel, self.spatial = ChannelGate(channels, reduction), SpatialGate(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, weighed."""
        if self.order == "parallel":
            return x * self.channel(x) * self.spatial(x)
        first, second = (self.channel, self.spatial) if self.order == "channel_first" else (self.spatial, self.channel)
        x = x * first(x)
        return x * second(x)


class ChannelGate(nn.Module):
    """sigmoid(MLP(average) + MLP(maximum)) over all places; the two share one MLP."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze, self.expand = nn.Linear(channels, hidden, bias=False), nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # adaptive pooling: on a CPU, amax takes ten times as long there and back
        pooled = torch.stack([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)]).flatten(2)  # (2, N, C)
        return self.expand(F.relu(self.squeeze(pooled))).sum(0).sigmoid()[:, :, None, None]  # (N, C, 1, 1)


class SpatialGate(nn.Module):
    """sigmoid(BatchNorm(convolution of [average; maximum])) over all channels.

    The kernel is a bare parameter: techniques that change a network's convolutions leave the gate alone.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, 2, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, nonlinearity="sigmoid")
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        return self.norm(F.conv2d(pooled, self.weight, padding="same")).sigmoid()  # (N, 1, H, W)
