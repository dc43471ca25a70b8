"""One image brought into the form that split packs: also of images that a trained model sees for the first time."""

import numpy as np
from PIL import Image


def fitted(image: np.ndarray, side: int, channels: int, resize: str) -> np.ndarray:
    """One image, uint8 (H, W, C), as (S, S, channels): resized with antialiasing, bilinear.

    `resize` "crop" keeps the largest square at the centre, "squash" everything.
    """
    height, width, found = image.shape
    if found != channels:
        image = np.repeat(image, 3, axis=2) if found == 1 else grey(image)
    if (height, width) == (side, side):
        return image
    square = min(height, width)
    left, top = ((width - square) / 2, (height - square) / 2) if resize == "crop" else (0, 0)
    box = (left, top, left + square, top + square) if resize == "crop" else (0, 0, width, height)
    pillow = Image.fromarray(image[..., 0] if channels == 1 else image)
    return np.asarray(pillow.resize((side, side), Image.Resampling.BILINEAR, box=box)).reshape(side, side, channels)


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 1) from (H, W, 3)"""
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]
