"""Pixels that were decoded from JPEG files, taken back to their coefficients: a tenth of the bytes.

Luma and, at half the side (4:2:0), the two chromas become sheets of many images, each a grey JPEG of the quality that
the images were saved with. Pillow decodes these; doubling the chromas and turning them to RGB, which libjpeg does in
whole numbers, is done here as there. What differs from the images after all is kept beside them, so that they come back
as they were whatever this guesses wrong.

Shapes: N images of a sheet, C channels (1 or 3), S side, H = S / 2.
"""

import io
import math

import numpy as np
from PIL import Image

from pipeline.images.codes.plain import restored, squeezed
from pipeline.images.picture import opened

FORMATS = ("JPEG",)  # what a Pillow of any age reads
ACROSS = 32  # images in a row of a sheet
MOST_PIXELS = 1 << 23  # of a sheet
MOST_SIDE = 1024  # of an image: ACROSS of them fit into a JPEG's 65,500 pixels
TRIED = 32  # images that every quality is tried on
FOUND = 0.1  # at least this share of them comes out exact where the quality is right
ROUNDS = 3  # of asking anew what clipped pixels were
FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], dtype=np.float32
)
TO_RGB = np.linalg.inv(FROM_RGB)


def quality(images: np.ndarray) -> int | None:
    """The quality, 1 to 100, of the JPEG files that became these images, uint8 (N, S, S, C), N not 0; None: of none."""
    side, channels = images.shape[1], images.shape[3]
    if side % (16 if channels == 3 else 8) or side > MOST_SIDE:
        return None
    some = images[:: -(-len(images) // TRIED)]
    exact = [(_coded(some, each, rounds=1)[1] == some).all((1, 2, 3)).mean() for each in range(1, 101)]
    best = int(np.argmax(exact))
    return best + 1 if exact[best] >= FOUND else None


def encode(images: np.ndarray, quality: int) -> list[bytes]:
    """Images, uint8 (N, S, S, C), N not 0 and S as `quality` takes it: what differs, then the sheets."""
    differs, parts = np.empty_like(images), []
    for block in _blocks(images.shape):
        sheets, decoded = _coded(images[block], quality, ROUNDS)
        differs[block] = images[block] - decoded
        parts += sheets
    return [squeezed(differs.tobytes()), *parts]


def decode(parts: list[bytes], shape: tuple[int, int, int, int]) -> np.ndarray:
    """The images that `encode` took, uint8 (N, S, S, C).

    Raises ValueError, LZMAError, OSError or StageError for what it never wrote.
    """
    packed, *sheets = parts
    images = np.frombuffer(restored(packed, math.prod(shape)), np.uint8).reshape(shape).copy()
    blocks, channels = _blocks(shape), shape[3]
    if len(sheets) != channels * len(blocks):
        raise ValueError("sheets are missing")
    for number, block in enumerate(blocks):
        count, side = images[block].shape[:2]
        own = sheets[channels * number : channels * (number + 1)]
        planes = [_unsheeted(sheet, count, side // 2 if place else side) for place, sheet in enumerate(own)]
        images[block] += _coloured(planes)
    return images


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """The images of each sheet."""
    size = MOST_PIXELS // shape[1] ** 2
    return [slice(start, start + size) for start in range(0, shape[0], size)]


def _coded(images: np.ndarray, quality: int, rounds: int) -> tuple[list[bytes], np.ndarray]:
    """A sheet of each plane, and the images (N, S, S, C) that come of them.

    A pixel at 0 or 255 may have been beyond: after each round it is taken to be where the sheets have it.
    """
    shown = images.astype(np.float32)
    sides = [plane.shape[1] for plane in _planes(shown[:1])]
    for left in reversed(range(rounds)):
        sheets = [_sheet(plane, quality, chroma=place > 0) for place, plane in enumerate(_planes(shown))]
        planes = [_unsheeted(sheet, len(images), side) for sheet, side in zip(sheets, sides, strict=True)]
        if left:
            beyond = _unclipped(planes)
            clipped = (images == 0) & (beyond < 0) | (images == 255) & (beyond > 255)
            shown = np.where(clipped, beyond, images).astype(np.float32)
    return sheets, _coloured(planes)


def _planes(images: np.ndarray) -> list[np.ndarray]:
    """Luma (N, S, S) and the chromas (N, H, H) of images (N, S, S, C), float32."""
    if images.shape[3] == 1:
        return [images[..., 0]]
    halved = np.linalg.pinv(_doubling(images.shape[1])).astype(np.float32)  # (H, S)
    luma, *chromas = np.moveaxis(images @ FROM_RGB.T, 3, 0)
    return [luma, *(halved @ (chroma + 128) @ halved.T for chroma in chromas)]


def _doubling(side: int) -> np.ndarray:
    """What `_doubled` does to a line of a chroma, but for rounding: (S, H)."""
    half = np.eye(side // 2)
    before, after = np.vstack([half[:1], half[:-1]]), np.vstack([half[1:], half[-1:]])
    return np.stack([0.75 * half + 0.25 * before, 0.75 * half + 0.25 * after], 1).reshape(side, side // 2)


def _doubled(chroma: np.ndarray) -> np.ndarray:
    """A chroma (N, H, H) as (N, S, S), int32: libjpeg's "fancy upsampling", three parts the nearer, one the next."""
    padded = np.pad(chroma.astype(np.int32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    count, half = chroma.shape[:2]
    near = 3 * padded[:, 1:-1]
    rows = np.stack([near + padded[:, :-2], near + padded[:, 2:]], 2).reshape(count, 2 * half, half + 2)
    near = 3 * rows[..., 1:-1]
    columns = [near + rows[..., :-2] + 8 >> 4, near + rows[..., 2:] + 7 >> 4]
    return np.stack(columns, 3).reshape(count, 2 * half, 2 * half)


def _coloured(planes: list[np.ndarray]) -> np.ndarray:
    """Images, uint8 (N, S, S, C), of planes, as libjpeg makes them: from factors in multiples of 2**-16."""
    luma = planes[0].astype(np.int32)
    if len(planes) == 1:
        return planes[0][..., None]
    blue, red = (_doubled(plane) - 128 for plane in planes[1:])
    half = 1 << 15
    colours = [
        luma + (91881 * red + half >> 16),
        luma + (-22554 * blue - 46802 * red + half >> 16),
        luma + (116130 * blue + half >> 16),
    ]
    return np.stack(colours, 3).clip(0, 255).astype(np.uint8)


def _unclipped(planes: list[np.ndarray]) -> np.ndarray:
    """The same without a lower and an upper end: float32 (N, S, S, C)."""
    if len(planes) == 1:
        return planes[0][..., None].astype(np.float32)
    chromas = [_doubled(plane) - 128 for plane in planes[1:]]
    return np.stack([planes[0], *chromas], 3).astype(np.float32) @ TO_RGB.T


def _sheet(plane: np.ndarray, quality: int, chroma: bool) -> bytes:
    """Squares (N, side, side) side by side as a grey JPEG."""
    count, side = plane.shape[:2]
    rows = -(-count // ACROSS)
    sheet = np.zeros((rows * ACROSS, side, side), dtype=np.uint8)
    sheet[:count] = plane.round().clip(0, 255)
    sheet = sheet.reshape(rows, ACROSS, side, side).transpose(0, 2, 1, 3).reshape(rows * side, ACROSS * side)
    file = io.BytesIO()
    table = [_tables(quality)[1 if chroma else 0]]
    Image.fromarray(sheet).save(file, "JPEG", qtables=table, optimize=True, progressive=True)
    return file.getvalue()


def _unsheeted(sheet: bytes, count: int, side: int) -> np.ndarray:
    """The squares of a sheet, uint8 (N, side, side)."""
    rows = -(-count // ACROSS)
    with opened(sheet, "a sheet of images", FORMATS) as picture:
        if (picture.format, picture.mode, picture.size) != ("JPEG", "L", (ACROSS * side, rows * side)):
            raise ValueError("a sheet of another form")
        squares = np.asarray(picture).reshape(rows, side, ACROSS, side).transpose(0, 2, 1, 3)
    return squares.reshape(-1, side, side)[:count]


def _tables(quality: int) -> dict[int, list[int]]:
    """The steps of luma's and of chroma's coefficients at a quality."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    with opened(file.getvalue(), "a picture", FORMATS) as picture:
        return dict(picture.quantization)  # type: ignore[attr-defined]
