"""Squeeze-and-excite (Hu et al. 2018, arXiv:1709.01507) after every convolution of any network, with timm's module.

As MosaicML's Composer places it: right after the convolution, before its normalisation. A depthwise convolution is left
to the pointwise one that follows; cutting an image into patches is no convolution in this sense.
"""

from torch import nn

from pipeline.base.errors import StageError


def add_squeeze_excite(network: nn.Module, ratio: float) -> None:
    """Insert the blocks in place; `ratio` is the share of a layer's channels that the squeeze keeps, one at least.

    Raises StageError where there is no convolution to follow.
    """
    from timm.layers.squeeze_excite import SqueezeExcite  # late: timm takes seconds to import

    found = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and not is_depthwise(child) and not is_patchify(child):
                channels = child.out_channels
                parent._modules[name] = nn.Sequential(
                    child, SqueezeExcite(channels, rd_channels=max(1, round(channels * ratio)))
                )
                found += 1
    if not found:
        raise StageError("squeeze_excite: this network has no convolutions to follow; choose 0")


def is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups > 1 and conv.groups == conv.in_channels


def is_patchify(conv: nn.Conv2d) -> bool:
    return max(conv.stride) > 1 and conv.kernel_size == conv.stride
