"""Colour jitter: brightness, contrast and saturation, as in torchvision's functional transforms.

Departs from torchvision's ColorJitter: a fixed order (brightness, contrast, saturation), no hue.
"""

from torch import Tensor

from pipeline.images.luma import grey


def color_jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """images (N, C, H, W) in 0..255, C 1 or 3; factors (N,), 1 changes nothing. Returns float, the same shape."""
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in (brightness, contrast, saturation))
    images = (images.contiguous() * brightness).clamp_(0, 255)  # a plane for each channel: long runs of memory
    mean = grey(images).mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    images.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 255)
    if images.shape[1] == 1:
        return images  # grey has no saturation
    luma = grey(images)
    return images.mul_(saturation).add_(luma.mul_(1 - saturation)).clamp_(0, 255)
