"""Any image file becomes upright grey or RGB pixels, or is refused by name."""

import io
import multiprocessing
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import decode as decode_module
from pipeline.datasets import layouts, tree
from pipeline.datasets.collection import Image as CollectionImage
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


def packed(folder: Path, kind: str, count: int, rng: np.random.Generator) -> tuple[Path, list[np.ndarray]]:
    """A folder, a zip or a tar of `count` images of random size."""
    (folder / "images").mkdir()
    pictures = []
    for place in range(count):
        pictures.append(rng.integers(0, 256, (*rng.integers(2, 9, 2), 3), dtype=np.uint8))
        Image.fromarray(pictures[-1]).save(folder / f"images/{place:03d}.png")
    if kind == "folder":
        return folder / "images", pictures
    return Path(shutil.make_archive(str(folder / "archive"), kind, folder / "images")), pictures


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes")
@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gztar"])
def test_processes_read_what_threads_read(
    tmp_path: Path, kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pictures = packed(tmp_path, kind, 150, rng)
    monkeypatch.setattr(decode_module, "CHUNK", 4)
    with tree.open_tree(path) as files:
        images = [CollectionImage(name, "", "", layouts.from_file(files, name, "RGB")) for name in files.paths]
        for many in (len(images), len(images) + 1):
            monkeypatch.setattr(decode_module, "MANY", many)
            found = list(decode_module.decoded(images))
            assert [image for image, _ in found] == images
            for (_, pixels), wanted in zip(found, pictures, strict=True):
                np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes")
def test_a_damaged_image_in_a_process_is_named_and_no_process_stays(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = packed(tmp_path, "folder", 60, rng)
    (path / "050.png").write_bytes(b"damaged")
    monkeypatch.setattr(decode_module, "MANY", 1)
    with tree.open_tree(path) as files:
        images = [CollectionImage(name, "", "", layouts.from_file(files, name, "RGB")) for name in files.paths]
        with pytest.raises(StageError, match=r"050\.png: unreadable or truncated"):
            list(decode_module.decoded(images))
    assert not multiprocessing.active_children()
