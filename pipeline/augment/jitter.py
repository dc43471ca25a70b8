"""Colour jitter: brightness, contrast and saturation, as in torchvision's functional transforms.

Departs from torchvision's ColorJitter: a fixed order (brightness, contrast, saturation), no hue.
"""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as Pillow and torchvision weigh red, green and blue


def color_jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """images (N, C, H, W) float in 0..255, C 1 or 3; factors (N,), 1 changes nothing. Returns the same shape."""
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in (brightness, contrast, saturation))
    images = (images * brightness).clamp(0, 255)
    mean = grey(images).mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    images = torch.lerp(mean, images, contrast).clamp(0, 255)
    if images.shape[1] == 1:
        return images  # grey has no saturation
    return torch.lerp(grey(images), images, saturation).clamp(0, 255)


def grey(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) -> luma (N, 1, H, W)"""
    if images.shape[1] == 1:
        return images
    return torch.tensordot(images.movedim(1, -1), images.new_tensor(LUMA), dims=1)[:, None]  # (N, 1, H, W)
