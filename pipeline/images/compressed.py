"""Packed images in few bytes and back, to the last bit: what travels to a machine without DVC.

A line of JSON says what follows it: the `shape`, the `form` that took the fewest bytes, how many `distinct` images
there are, the lengths of the `parts`, and the `digest` of what comes out. Reading runs nothing of what it reads.

Shapes: N images, C channels (1 or 3), S side.
"""

import hashlib
import json
import lzma
import math
from typing import Any

import numpy as np

from pipeline.base.errors import StageError
from pipeline.images.codes import jpeg, predicted
from pipeline.images.codes.plain import restored, squeezed

MAGIC = b"versus images 1\n"
MOST = 1 << 33  # bytes of pixels that one is willing to hold in memory
SAMPLE = 1 << 21  # bytes of pixels that the forms are tried on
HEAD = {"shape": list, "form": str, "distinct": int, "parts": list, "digest": str}

Shape = tuple[int, int, int, int]


def compress(images: np.ndarray) -> bytes:
    """Images, uint8 (N, S, S, C), in the form that takes the fewest bytes; those that occur again are kept once.

    A second call gives the same bytes. Raises ValueError for another type or shape.
    """
    shape = list(images.shape)
    if images.dtype != np.uint8 or not _is_shape(shape):
        raise ValueError(f"images are uint8 (N, S, S, 1 or 3), not {images.dtype} {images.shape}")
    first, rows = _distinct(images)
    if repeats := len(first) < len(images):
        images = images[first]
    form = _smallest_form(images)
    parts = [*([squeezed(rows.tobytes())] if repeats else []), *_encoded(form, images)]
    head = {
        "shape": shape,
        "form": form,
        "distinct": len(first),
        "parts": [len(part) for part in parts],
        "digest": _digest(images, rows),
    }
    return b"".join([MAGIC, json.dumps(head).encode(), b"\n", *parts])


def decompress(data: bytes, name: str = "images", most: int = MOST) -> np.ndarray:
    """The images that `compress` took, uint8 (N, S, S, C); messages call them `name`.

    Raises StageError for what is damaged, forged, or of more than `most` bytes of pixels.
    """
    damaged = StageError(f"{name}: damaged, or packed by another version; copy the file again, or pack anew")
    try:
        head, parts = _opened(data)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise damaged from None
    count, *form = shape = head["shape"]
    if (size := math.prod(shape)) > most:
        raise StageError(f"{name}: {size:,} bytes of pixels, more than {most:,}; pack fewer or smaller images")
    repeats = head["distinct"] < count
    try:
        rows = np.frombuffer(restored(parts.pop(0), 4 * count), "<u4") if repeats else np.arange(count)
        images = _decoded(head["form"], parts, (head["distinct"], *form))
        if _digest(images, rows) != head["digest"]:
            raise damaged
        return images[rows] if repeats else images
    except (ValueError, TypeError, LookupError, OSError, EOFError, lzma.LZMAError, StageError):
        raise damaged from None


def _opened(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The head and the parts; raises ValueError, TypeError or LookupError where they are not what `compress` writes."""
    start = data.index(b"\n", len(MAGIC)) + 1
    head = json.loads(data[len(MAGIC) : start])
    if not data.startswith(MAGIC) or any(type(head[key]) is not kind for key, kind in HEAD.items()):
        raise ValueError("no head")
    lengths = head["parts"]
    if any(type(length) is not int or length < 0 for length in lengths) or start + sum(lengths) != len(data):
        raise ValueError("parts of other lengths")
    if not _is_shape(head["shape"]) or not min(1, head["shape"][0]) <= head["distinct"] <= head["shape"][0]:
        raise ValueError("no shape of images")
    ends = [start + sum(lengths[: place + 1]) for place in range(len(lengths))]
    return head, [data[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def _is_shape(shape: list[Any]) -> bool:
    """Whether a list is the shape of packed images."""
    if len(shape) != 4 or any(type(size) is not int for size in shape):
        return False
    count, height, width, channels = shape
    return 0 <= count < 1 << 32 and height == width and 1 <= width <= 1 << 16 and channels in (1, 3)


def _distinct(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct image occurs first, and which of them each image is, (N,)."""
    seen: dict[bytes, int] = {}
    rows = [seen.setdefault(hashlib.sha256(image.tobytes()).digest(), len(seen)) for image in images]
    return np.unique(np.array(rows, dtype=np.int64), return_index=True)[1], np.array(rows, dtype="<u4")


def _smallest_form(images: np.ndarray) -> str:
    """The form in which a sample of the images takes the fewest bytes; the simplest where some take the same."""
    sample = images[:: max(1, -(-images.nbytes // SAMPLE))]
    forms = ["plain"] if len(images) == 0 else ["plain", "predicted"]
    if len(images) and (quality := jpeg.quality(sample)):
        forms.append(f"jpeg {quality}")
    return min(forms, key=lambda form: sum(map(len, _encoded(form, sample))))


def _encoded(form: str, images: np.ndarray) -> list[bytes]:
    """Images (N, S, S, C) in one form."""
    kind, _, quality = form.partition(" ")
    if kind == "jpeg":
        return jpeg.encode(images, int(quality))
    return predicted.encode(images) if kind == "predicted" else [squeezed(images.tobytes())]


def _decoded(form: str, parts: list[bytes], shape: Shape) -> np.ndarray:
    """Images (N, S, S, C) from one form; for parts that it never wrote, the errors that `decompress` turns into one."""
    kind = form.partition(" ")[0]
    if kind == "plain":
        return np.frombuffer(bytearray(restored(parts[0], math.prod(shape))), np.uint8).reshape(shape)
    return {"jpeg": jpeg, "predicted": predicted}[kind].decode(parts, shape)


def _digest(images: np.ndarray, rows: np.ndarray) -> str:
    """SHA-256 of the distinct images, their shape, and which of them each image is."""
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    digest.update(rows.astype("<u4").tobytes())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
