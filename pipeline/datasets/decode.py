"""Encoded images to pixels: uint8 (H, W, C), C 1 for grey and 3 for RGB."""

import ctypes
import io
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from pipeline.datasets.collection import Image
from pipeline.stage import PassingError, StageError, cores

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MOST_PIXELS = 89_478_485  # Pillow's own threshold for a decompression bomb
MANY = 2048  # images, from which on processes are worth their start
CHUNK = 32, 8 << 20  # at most so many images, bytes of pixels that a process decodes at a time
PR_SET_PDEATHSIG = 1  # linux/prctl.h
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")


def decode(content: bytes, name: str, mode: str = "") -> np.ndarray:
    """Decode one image to uint8 (H, W, C), turned upright as its EXIF orientation says.

    `mode` is "L" (C=1), "RGB" (C=3) or empty: grey where the three channels are equal, else RGB. Transparent pixels
    show white; 16-bit grey keeps its high byte. Raises StageError naming the image if any byte of it is unreadable.
    """
    try:
        with PillowImage.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise StageError(f"{name}: {image.width} x {image.height} pixels are too many for an image to compare")
            image.load()  # verify() passes truncated files
            ImageOps.exif_transpose(image, in_place=True)
            pixels = np.asarray(_opaque(image, mode), dtype=np.uint8)
    except StageError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever comes along
        raise StageError(f"{name}: unreadable or truncated image ({error})") from None
    if pixels.ndim == 3 and not mode and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])  # (H, W, C)


def _opaque(image: PillowImage.Image, mode: str) -> PillowImage.Image:
    """Grey or RGB without transparency."""
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; save the image with 8 bits")
    if image.mode.startswith("I;16"):
        image = PillowImage.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = PillowImage.new("RGBA", image.size, "white")
        image = PillowImage.alpha_composite(white, image.convert("RGBA"))
    wanted = mode or ("L" if image.mode in GREY_MODES else "RGB")
    return image if image.mode == wanted else image.convert(wanted)


def of_size(pixels: np.ndarray, side: int, name: str) -> np.ndarray:
    """`pixels` if it has the data set's size; raises StageError otherwise."""
    if pixels.shape[:2] != (side, side):
        height, width = pixels.shape[:2]
        raise StageError(f"{name}: {width} x {height} pixels, where this data set has {side} x {side}")
    return pixels


def decoded(images: Sequence[Image]) -> Iterator[tuple[Image, np.ndarray]]:
    """Each image with its pixels (H, W, C), in order, read ahead on all cores.

    At most a few chunks of images per core are held at a time. Of many images, a process per core where a fork is safe:
    small ones take longer to open than to decode, and threads take turns at that.
    """
    workers = len(cores())
    forks = len(images) >= MANY and workers > 1 and sys.platform == "linux"
    most, size = CHUNK
    chunk = max(1, min(most, size // images[0].pixels().nbytes)) if forks else 1
    parts = [images[start : start + chunk] for start in range(0, len(images), chunk)]
    pool: Executor
    if forks:
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(parts, os.getpid()))
        decode_part: Callable[[int], list[np.ndarray]] = _decode_part
    else:
        pool, decode_part = ThreadPoolExecutor(workers), lambda place: _pixels(parts[place])
    with warnings.catch_warnings(), pool:
        warnings.simplefilter("ignore")  # `decode` refuses what Pillow warns of and matters
        ahead = (pool.submit(decode_part, place) for place in range(len(parts)))
        pending: deque[Future[list[np.ndarray]]] = deque()
        for part in parts:
            try:
                pending.extend(islice(ahead, 2 * workers - len(pending)))
                found = pending.popleft().result()
            except BrokenProcessPool:
                raise PassingError("a process that decodes images was killed, perhaps for want of memory") from None
            yield from zip(part, found, strict=True)


def _pixels(images: Sequence[Image]) -> list[np.ndarray]:
    return [image.pixels() for image in images]


_parts: list[Sequence[Image]] = []  # in a process of the pool: what is to be decoded


def _begin(parts: list[Sequence[Image]], parent: int) -> None:
    """Take over the images, which came with the fork; end with the parent, and leave signals to it."""
    global _parts
    _parts = parts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _decode_part(place: int) -> list[np.ndarray]:
    return _pixels(_parts[place])
