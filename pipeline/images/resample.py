"""Crops of whole pixels of large uint8 images, brought to another size: bilinear, no antialiasing, on a CPU.

torch's kernel takes one image at a time and copies each crop before and after; resample.c takes a batch as it lies, to
the same bytes. It is used for RGB that is only magnified, where there is a C compiler and a CPU with AVX2.

Shapes: N images, C channels, S the side of a crop's result.
"""

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.native import library

SOURCE = Path(__file__).with_suffix(".c")
BITS, AT_ONCE, LARGEST = 14, 4, 4096  # as in resample.c
NARROWEST = 6  # pixels: resample.c reads 16 bytes of a row at a time


def crops(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None) -> Tensor:
    """images (N, C, H, W) uint8, boxes (N, 4) whole: top, left, height, width; flip (N,) bool. Returns (N, C, S, S)."""
    if fits(images, boxes, size) and (found := native()):
        return _at_once(found, images, boxes, size, flip)
    return one_by_one(images, boxes, size, flip)


def fits(images: Tensor, boxes: Tensor, size: int) -> bool:
    """Whether these are crops that resample.c takes: RGB, inside their images, none larger than its result."""
    rows, columns = images.shape[2:]
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 0] + boxes[:, 2] <= rows).all()
    inside = inside and (boxes[:, 1] + boxes[:, 3] <= columns).all() and (boxes[:, 2:] >= 1).all()
    shaped = images.shape[1] == 3 and columns >= NARROWEST and size % AT_ONCE == 0 and size <= LARGEST
    return bool(shaped and inside and (boxes[:, 2:] <= size).all())


@cache
def native() -> ctypes.CDLL | None:
    """resample.c; None where it cannot be compiled, or the CPU lacks what it uses."""
    found = library(SOURCE)
    return found if found and found.supported() else None


def one_by_one(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None) -> Tensor:
    """The same by torch's own kernel, an image at a time."""
    found = torch.empty(len(images), size, size, images.shape[1], dtype=torch.uint8).permute(0, 3, 1, 2)
    for index, (top, left, height, width) in enumerate(boxes.int().tolist()):
        part = images[index : index + 1, :, top : top + height, left : left + width]
        crop = F.interpolate(part, (size, size), mode="bilinear", align_corners=False)[0]
        found[index] = crop.flip(-1) if flip is not None and flip[index] else crop
    return found


def _at_once(found: ctypes.CDLL, images: Tensor, boxes: Tensor, size: int, flip: Tensor | None) -> Tensor:
    pixels = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3): as packed images lie
    result = torch.empty(len(images), size, size, 3, dtype=torch.uint8)
    mirrored = torch.zeros(len(images), dtype=torch.bool) if flip is None else flip.contiguous()
    places, starts, weights = boxes.int().contiguous(), *_taps(size)
    scratch = torch.empty((size + 1) * (3 * size + 16), dtype=torch.uint8)
    count, rows, columns = map(ctypes.c_int64, pixels.shape[:3])
    found.crops(
        *(_at(pixels), count, rows, columns, _at(places), _at(mirrored), ctypes.c_int(size)),
        *(_at(starts), _at(weights), _at(scratch), _at(result)),
    )
    return result.permute(0, 3, 1, 2)


def _at(values: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.data_ptr())


@cache
def _taps(size: int) -> tuple[Tensor, Tensor]:
    """For lengths up to `size`: which pixel each of the result lies at or behind, and the weight of the next.

    Two (size + 1, size), int32 and int16 of BITS bits, by torch's formula; half-pixel centres, clamped at the ends.
    """
    lengths = np.arange(size + 1)[:, None]
    centres = (np.arange(size) + 0.5) * (lengths / size) - 0.5
    starts = np.floor(centres)
    behind = 1 - (1 - (centres - starts))  # rounded as a triangle's height is
    behind[(starts < 0) | (starts >= lengths - 1)] = 0  # both weights are of the pixel at the end
    weights = np.floor(behind * (1 << BITS) + 0.5).astype(np.int16)
    whole = weights == 1 << BITS  # a centre that falls short of the next pixel by a rounding: it is that pixel
    starts, weights[whole] = starts + whole, 0
    return torch.from_numpy(starts.clip(0, np.maximum(lengths - 1, 0)).astype(np.int32)), torch.from_numpy(weights)
