"""Any image file becomes upright grey or RGB pixels, or is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.decode import decode
from pipeline.stage import StageError
from tests.trees import encoded, striped


def saved(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_grey_and_colour_come_back_as_stored(rng: np.random.Generator) -> None:
    for channels in (1, 3):
        pixels = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
        np.testing.assert_array_equal(decode(encoded(pixels), "x"), pixels)


def test_grey_stored_as_colour_is_grey(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (5, 7, 1), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encoded(np.repeat(pixels, 3, axis=2)), "x"), pixels)
    assert decode(encoded(pixels), "x", "RGB").shape == (5, 7, 3)
    assert decode(encoded(np.repeat(pixels, 3, axis=2)), "x", "L").shape == (5, 7, 1)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tiff", (255, 0, 0)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).quantize(4), "png", (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), "png", (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "png", (255,)),  # transparent shows white, which is grey
        (Image.new("LA", (4, 4), (10, 255)), "png", (10,)),
        (Image.new("1", (4, 4), 1), "png", (255,)),
        (Image.fromarray(np.full((4, 4), 0x1234, np.uint16)), "png", (0x12,)),
    ],
)
def test_every_mode_becomes_grey_or_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(decode(saved(image, kind), "x"), np.full((4, 4, len(expected)), expected))


def test_exif_orientation_is_applied(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    np.testing.assert_array_equal(decode(encoded(pixels, "png", exif=exif), "x"), np.rot90(pixels, -1))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_truncated_image_is_named(rng: np.random.Generator, kind: str) -> None:
    content = encoded(striped(3, 64, 64, 3, rng), kind)
    for share in (0.0, 0.1, 0.5, 0.9):
        with pytest.raises(StageError, match=r"cat/3\.jpg: unreadable or truncated"):
            decode(content[: int(share * len(content))], "cat/3.jpg")


def test_file_that_is_no_image_is_named() -> None:
    with pytest.raises(StageError, match=r"notes\.jpg: unreadable"):
        decode(b"hello", "notes.jpg")


@pytest.mark.parametrize("side", [9_500, 40_000])  # above Pillow's warning, above its error
def test_decompression_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(StageError, match=r"bomb\.png"):
        decode(bomb, "bomb.png")
