"""Encoded images to pixels: uint8 (H, W, C), C 1 for grey and 3 for RGB."""

import ctypes
import gc
import itertools
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from PIL import ExifTags, ImageFile
from PIL import Image as PillowImage

from pipeline.base.errors import PassingError, StageError
from pipeline.base.places import cores
from pipeline.datasets.collection import Image
from pipeline.images.picture import opened, plain_jpeg

MANY = 2048  # images, from which on processes are worth their start
CHUNK = 256, 8 << 20  # at most so many images, bytes of pixels that a process decodes at a time
NAMED = 12  # refused images in one message
PR_SET_PDEATHSIG = 1  # linux/prctl.h
TURNS = {  # EXIF's orientation -> what undoes it; exif_transpose also rewrites the rest of EXIF, and may fail at that
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
Shape = tuple[int, ...]  # (H, W, C)
Decoded = tuple[list[Shape], bytes, list[str]]  # of the images that can be read; and what is wrong with the others
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")


def decode(content: bytes, name: str, mode: str = "") -> np.ndarray:
    """Decode one image to uint8 (H, W, C), turned upright as its EXIF orientation says.

    `mode` is "L" (C=1), "RGB" (C=3) or empty: grey where the three channels are equal, else RGB. Transparent pixels
    show white; of 16 bits the high byte is kept. Raises StageError naming the image if any byte of it is unreadable, or
    if its 16 bits hold 12 or fewer: their high byte would be 16 shades.
    """
    plain = plain_jpeg(content)
    image = _read(content, name, mode) if plain is None else _opaque(plain, mode, None)
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)  # (H, W, C)
    if pixels.shape[2] == 3 and not mode and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, :1]
    return np.ascontiguousarray(pixels)


def _read(content: bytes, name: str, mode: str) -> PillowImage.Image:
    """An image of any format, grey or RGB, upright and opaque."""
    with opened(content, name) as image:
        try:
            deep = _has_16_bits(image)
            image.load()  # verify() passes truncated files
            if deep:
                _refuse_few_shades(image, name)
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            return _opaque(image, mode, turn).copy()
        except StageError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever comes along
            raise StageError(f"{name}: unreadable or truncated image ({error}); remove or replace it") from None


def _has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Whether a value of the file, its pixels not yet read, has 16 bits."""
    layouts = " ".join(str(tile[3]) for tile in image.tile)  # as Pillow calls them: I;16B, RGB;16L
    return image.mode.startswith("I;16") or _is_deep_pgm(image) or (";16" in layouts and "BGR;16" not in layouts)


def _is_deep_pgm(image: PillowImage.Image) -> bool:
    """Whether these are a PGM's values, of which white is 65,535 whatever it is in the file."""
    return image.format == "PPM" and image.mode == "I"


def _refuse_few_shades(image: PillowImage.Image, name: str) -> None:
    """Raise where 16 bits hold 12 or fewer; nobody but their owner knows how many, and so what is white."""
    values = np.asarray(image)
    if values.dtype == np.uint8:  # Pillow has taken the high byte already
        colours = len(image.getbands()) - image.mode.endswith("A")
        values = (values[..., :colours].astype(np.int64) << 8) + 255
    if values.max() < 4096 and (values.max() > values.min() or values.dtype == np.int64):
        raise StageError(
            f"{name}: 16 bits a value, but no value above {values.max():,}: 8 bits of that are 16 shades of grey or"
            " fewer; save all images with 8 bits, stretched alike (of 12 bits: `convert in.png -level 0,4095 -depth 8"
            " out.png`; of dark images that use 16: without -level)"
        )


def _opaque(image: PillowImage.Image, mode: str, turn: PillowImage.Transpose | None) -> PillowImage.Image:
    """Grey or RGB without transparency, turned."""
    if image.mode.startswith("I;16") or _is_deep_pgm(image):
        image = PillowImage.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range; save the image with 8 bits")
    if image.has_transparency_data:
        white = PillowImage.new("RGBA", image.size, "white")
        image = PillowImage.alpha_composite(white, image.convert("RGBA"))
    wanted = mode or ("L" if image.mode in GREY_MODES else "RGB")
    image = image if image.mode == wanted else image.convert(wanted)
    return image if turn is None else image.transpose(turn)


def of_size(pixels: np.ndarray, side: int, name: str) -> np.ndarray:
    """`pixels` if it has the data set's size; raises StageError otherwise."""
    if pixels.shape[:2] != (side, side):
        height, width = pixels.shape[:2]
        raise StageError(f"{name}: {width} x {height} pixels, where this data set has {side} x {side}")
    return pixels


def decoded(images: Sequence[Image], seconds: float = math.inf) -> Iterator[tuple[Image, np.ndarray]]:
    """Each image with its pixels (H, W, C), in order, read ahead on all cores; none that comes after so many seconds.

    Raises StageError as `decoded_parts` does.
    """
    for part, shapes, content in decoded_parts(images, seconds):
        starts = itertools.accumulate(map(math.prod, shapes), initial=0)
        for image, shape, start in zip(part, shapes, starts, strict=False):  # the last start is the end
            yield image, np.frombuffer(content, np.uint8, math.prod(shape), start).reshape(shape)


def decoded_parts(
    images: Sequence[Image], seconds: float = math.inf
) -> Iterator[tuple[Sequence[Image], list[Shape], bytes]]:
    """Some images at a time, in order, their shapes and their pixels one after another, read ahead on all cores.

    At most four chunks of images per core are held at a time; where a chunk has more bytes than it was sized for, the
    rest of it comes image by image. After an image that is refused none is given, but the others are looked at, too:
    the StageError that ends it names the first dozen of all that are refused.
    """
    workers = len(cores())
    pool, decode_part, chunk = _pool(images, workers)
    coming = deque((start, min(start + chunk, len(images))) for start in range(0, len(images), chunk))
    asked: dict[int, Future[Decoded]] = {}  # by the first image
    faults: list[str] = []
    reached, due = 0, time.monotonic() + seconds
    with warnings.catch_warnings(), pool:
        warnings.simplefilter("ignore")  # `decode` refuses what Pillow warns of and matters
        while coming and time.monotonic() < due:
            try:
                for start, stop in itertools.islice(coming, 2 * workers):
                    if start not in asked:
                        asked[start] = pool.submit(decode_part, start, stop)
                start, stop = coming.popleft()
                shapes, content, refused = asked.pop(start).result()
            except BrokenProcessPool:
                raise PassingError("a process that decodes images was killed, perhaps for want of memory") from None
            faults += refused
            reached = start + len(shapes) + len(refused)
            coming.extendleft((place, place + 1) for place in reversed(range(reached, stop)))
            if not faults:
                yield images[start:reached], shapes, content
        pool.shutdown(cancel_futures=True)
    if faults:
        raise _refusal(faults, reached)


def _pool(images: Sequence[Image], workers: int) -> tuple[Executor, Callable[[int, int], Decoded], int]:
    """Who decodes, the function that they are given, and for how many images at a time.

    Of many images, a process per core where a fork is safe: small ones take longer to open than to decode, and threads
    take turns at that.
    """
    if len(images) < MANY or workers == 1 or sys.platform != "linux":
        return ThreadPoolExecutor(workers), lambda start, stop: _pixels(images[start:stop]), 1
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(images, os.getpid()))
    return pool, _decode_part, _chunk(images)


def _refusal(faults: Sequence[str], looked_at: int) -> StageError:
    """What is wrong with the images that are refused, a line for each of the first, and how many more there are."""
    if len(faults) == 1:
        return StageError(faults[0])
    more = [f"and {len(faults) - NAMED:,} more"] * (len(faults) > NAMED)
    lines = [f"{len(faults):,} of {looked_at:,} images are refused:", *sorted(faults)[:NAMED], *more]
    return StageError("\n  ".join(lines))


def _chunk(images: Sequence[Image]) -> int:
    """How many images a process decodes at a time, from the largest of a few of them."""
    most, size = CHUNK
    largest = max(len(_pixels([image])[1]) for image in images[:: len(images) // 8 + 1])
    return max(1, min(most, size // max(1, largest)))


def _pixels(images: Sequence[Image]) -> Decoded:
    """The shapes of some images, and their pixels as one run of bytes, which travels faster than many arrays.

    Of the first image and of as many more as are begun before CHUNK's bytes are reached.
    """
    found: list[np.ndarray] = []
    faults, size = [], 0
    for image in images:
        try:
            found.append(np.ascontiguousarray(image.pixels()))
        except PassingError:
            raise
        except StageError as error:
            faults.append(str(error))
            continue
        size += found[-1].nbytes
        if size >= CHUNK[1]:
            break
    return [pixels.shape for pixels in found], b"".join(pixels.data for pixels in found), faults


_images: Sequence[Image] = []  # in a process of the pool: what is to be decoded


def _begin(images: Sequence[Image], parent: int) -> None:
    """Take over the images, which came with the fork; end with the parent, and leave signals to it."""
    global _images
    _images = images
    gc.freeze()  # what came with the fork stays: nothing of it is looked through, or copied for that
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _decode_part(start: int, stop: int) -> Decoded:
    return _pixels(_images[start:stop])
