"""BlurPool (Zhang 2019, arXiv:1904.11486): blur before sampling down, so that a shift by a pixel changes less.

Max-pools become a dense max-pool and timm's strided 3x3 binomial blur. Convolutions that stride over 16 channels or
more are preceded by a blur without stride, as in MosaicML's Composer: a fraction of the cost of Zhang's dense ones.
"""

import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError

MIN_CHANNELS = 16  # below lies the convolution that reads the image


def add_blurpool(network: nn.Module) -> None:
    """Replace the pools and strided convolutions of `network` in place; adds no parameters.

    Raises StageError where there is none.
    """
    from timm.layers.blur_pool import BlurPool2d  # late: timm takes seconds to import

    found = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d) and _pair(child.stride) == (2, 2):
                dense = nn.MaxPool2d(child.kernel_size, stride=1, padding=child.padding)
                blurred: nn.Module = nn.Sequential(dense, Float32(BlurPool2d(None, filt_size=3, stride=2)))
            elif isinstance(child, nn.Conv2d) and overlaps(child) and child.in_channels >= MIN_CHANNELS:
                blurred = nn.Sequential(Float32(BlurPool2d(None, filt_size=3, stride=1)), child)
            else:
                continue
            parent._modules[name] = blurred
            found += 1
    if not found:
        raise StageError("blurpool: this network has neither max-pools nor strided convolutions to blur; choose false")


class Float32(nn.Module):
    """A module in float32 whatever the precision around it: a CPU's bf16 takes ten times as long to go back through a
    strided depthwise convolution, which a blur is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.module(x.float())


def overlaps(conv: nn.Conv2d) -> bool:
    """Whether a convolution samples down other than by cutting the image into patches."""
    return max(conv.stride) > 1 and conv.kernel_size != conv.stride


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
