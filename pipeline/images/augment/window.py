"""A window of each image, at whole pixels: shifts, crops without resampling, and left-right flips, of uint8 as it lies.

Outside the image its border is repeated. On a CPU every row of a window is one run of bytes, copied as such.
"""

import numpy as np
import torch
from torch import Tensor


def window(pixels: Tensor, top: Tensor, left: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """pixels (N, H, W, C) uint8; top, left (N,) whole, may lie outside; flip (N,) bool. Returns (N, size, size, C)."""
    if pixels.device.type == "cpu":
        corners = top.numpy().astype(np.int64), left.numpy().astype(np.int64)
        return torch.from_numpy(_runs(pixels.numpy(), *corners, size, None if flip is None else flip.numpy()))
    return gather(pixels, top, left, size, flip)


def gather(pixels: Tensor, top: Tensor, left: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """The same, pixel by pixel: what a GPU does well."""
    height, width = pixels.shape[1:3]
    steps = torch.arange(size, device=pixels.device)
    across = steps.expand(len(pixels), size) if flip is None else torch.where(flip[:, None], steps.flip(0), steps)
    rows = (top[:, None].long() + steps).clamp(0, height - 1)  # (N, S)
    columns = (left[:, None].long() + across).clamp(0, width - 1)
    images = torch.arange(len(pixels), device=pixels.device)
    return pixels[images[:, None, None], rows[:, :, None], columns[:, None, :]]


def _runs(pixels: np.ndarray, top: np.ndarray, left: np.ndarray, size: int, flip: np.ndarray | None) -> np.ndarray:
    count, height, width, channels = pixels.shape
    pixel, row, run = (np.dtype((np.void, length * channels)) for length in (1, width, size))  # copied whole
    pixels = np.ascontiguousarray(pixels)
    before = max(0, -int(left.min()))
    after = max(0, int(left.max()) + size - width)
    if before or after:  # the border, repeated
        rows, points = pixels.reshape(count, height, -1).view(row)[..., 0], pixels.view(pixel)[..., 0]
        wide = np.empty((count, height, before + width + after), pixel)
        np.ndarray((count, height), row, wide, before * channels, wide.strides[:2])[:] = rows
        wide[:, :, :before] = points[:, :, :1]
        wide[:, :, before + width :] = points[:, :, -1:]
        pixels, width = wide, wide.shape[2]
    rows = (top[:, None] + np.arange(size)).clip(0, height - 1)  # (N, S)
    starts = ((np.arange(count)[:, None] * height + rows) * width + left[:, None] + before) * channels
    runs = np.ndarray((pixels.nbytes - run.itemsize + 1,), run, pixels, 0, (1,))  # one from every byte on
    windows = runs[starts].view(np.uint8).reshape(count, size, size, channels)
    if flip is not None:
        plain = windows[flip]
        turned = np.empty_like(plain)
        for channel in range(channels):  # bytes one apart from another are read backwards faster than pixels are
            turned[..., channel] = plain[:, :, ::-1, channel]
        windows[flip] = turned
    return windows
