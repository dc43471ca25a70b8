"""Encoded images to pixels: uint8 (H, W, C), C 1 for grey and 3 for RGB."""

import ctypes
import io
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from pipeline.datasets.collection import Image
from pipeline.stage import StageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MOST_PIXELS = 89_478_485  # Pillow's own threshold for a decompression bomb
MANY = 5_000  # images for which starting processes pays
CHUNK = 32  # images that a process reads at a time
PR_SET_PDEATHSIG = 1  # linux/prctl.h
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")

_images: list[Image] = []  # of a process that reads


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
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(_opaque(upright, mode), dtype=np.uint8)
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
    return image.convert(mode or ("L" if image.mode in GREY_MODES else "RGB"))


def of_size(pixels: np.ndarray, side: int, name: str) -> np.ndarray:
    """`pixels` if it has the data set's size; raises StageError otherwise."""
    if pixels.shape[:2] != (side, side):
        height, width = pixels.shape[:2]
        raise StageError(f"{name}: {width} x {height} pixels, where this data set has {side} x {side}")
    return pixels


def decoded(images: Iterable[Image]) -> Iterator[tuple[Image, np.ndarray]]:
    """Each image with its pixels (H, W, C), in order, read ahead on all cores.

    At most a few images per core are held at a time. Small images keep Python busier than Pillow, and only one thread
    at a time can run Python: of many images, processes read a part each where they can be forked.
    """
    images = list(images)
    if all(image.held for image in images):
        yield from ((image, image.pixels()) for image in images)
        return
    if len(images) >= MANY and sys.platform == "linux":
        yield from zip(images, _by_processes(images), strict=True)
        return
    workers = os.cpu_count() or 1
    remaining = iter(images)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # `decode` refuses what Pillow warns of and matters
        while batch := list(islice(remaining, 16 * workers)):
            yield from zip(batch, pool.map(lambda image: image.pixels(), batch), strict=True)


def _by_processes(images: list[Image]) -> Iterator[np.ndarray]:
    workers = len(os.sched_getaffinity(0))
    starts = iter(range(0, len(images), CHUNK))
    context = multiprocessing.get_context("fork")  # inherits the open archive and what was read of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside other threads: these processes only read and decode
        pool = ProcessPoolExecutor(workers, context, _end_with, (images, os.getpid()))
        try:
            ahead = deque(pool.submit(_read, start) for start in islice(starts, 4 * workers))
            while ahead:
                found = ahead.popleft().result()
                ahead.extend(pool.submit(_read, start) for start in islice(starts, 1))
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with(images: list[Image], parent: int) -> None:
    """In a new process: know the images, leave signals to the parent and end when it ends, however that happens."""
    global _images
    _images = images
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _read(start: int) -> list[np.ndarray]:
    return [image.pixels() for image in _images[start : start + CHUNK]]
