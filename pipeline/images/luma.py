"""Brightness of coloured images."""

from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as Pillow and torchvision weigh red, green and blue


def grey(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) -> luma (N, 1, H, W)"""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]
