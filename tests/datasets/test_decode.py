"""Any image file becomes upright grey or RGB pixels, or is refused by name."""

import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.base.errors import PassingError, StageError
from pipeline.datasets import collection
from pipeline.datasets import decode as decoding
from pipeline.datasets.decode import decode
from pipeline.datasets.layouts import from_file
from pipeline.datasets.tree import Tree, open_tree
from tests import repo
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
        (Image.fromarray(np.full((4, 4), 0x0001, np.uint16)), "png", (0,)),  # of one value: no shade is lost
    ],
)
def test_every_mode_becomes_grey_or_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(decode(saved(image, kind), "x"), np.full((4, 4, len(expected)), expected))


def test_exif_orientation_is_applied(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    np.testing.assert_array_equal(decode(encoded(pixels, "png", exif=exif), "x"), np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(rng: np.random.Generator, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8), "png", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode(content, "x"), np.asarray(turned))


def test_exif_that_cannot_be_written_anew_does_not_matter() -> None:
    entries = struct.pack("<HHHI4s", 2, 0x0112, 3, 1, b"\6\0\0\0") + struct.pack("<HHIi", 0x0100, 9, 1, -5)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4)
    photo = saved(Image.new("L", (30, 20), 200), "jpeg")
    photo = photo[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + photo[2:]
    assert decode(photo, "x").shape == (30, 20, 1)


# 12 bits in files of 16


def rgb16(high: int, alpha: int | None = None) -> bytes:
    """A PNG in colour with 16 bits a channel, values up to `high`."""
    rows = np.random.default_rng(0).integers(0, high + 1, (6, 5, 3 + (alpha is not None)), dtype=np.uint16)
    if alpha is not None:
        rows[..., 3] = alpha
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 5, 6, 16, 2 if alpha is None else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    )


def grey16(high: int, kind: str) -> bytes:
    values = np.random.default_rng(0).integers(0, high + 1, (6, 5), dtype=np.uint16)
    values[0, 0] = high
    return saved(Image.fromarray(values), kind)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg2000"])
def test_few_bits_in_a_file_of_16_are_refused_with_the_remedy(kind: str) -> None:
    """Its high byte would be 16 shades of 4,096; 1,024 and 256 of them would be 4 and 1."""
    for high in (255, 1023, 4095):
        with pytest.raises(StageError, match=rf"x\.png: 16 bits a value, but no value above {high:,}: .*-level 0,4095"):
            decode(grey16(high, kind), "x.png")
    for high in (4096, 65535):
        assert decode(grey16(high, kind), "x.png").max() == high >> 8


def test_few_bits_in_colours_of_16_are_refused_too() -> None:
    for content in (rgb16(4095), rgb16(255), rgb16(4095, alpha=65535)):
        with pytest.raises(StageError, match=r"no value above (4,095|255): 8 bits"):
            decode(content, "x.png")
    assert decode(rgb16(65535), "x.png").max() > 200
    assert decode(saved(Image.new("RGB", (4, 4), (0, 9, 3)), "png"), "x.png").max() == 9, "8 bits lose nothing"


def test_a_pgm_says_itself_what_is_white() -> None:
    values = np.array([[0, 1000], [2048, 4095]], ">u2")
    for white, wanted in ((4095, [[0, 62], [127, 255]]), (65535, None)):
        content = b"P5\n2 2\n%d\n" % white + values.tobytes()
        if wanted is None:
            with pytest.raises(StageError, match="no value above 4,095"):
                decode(content, "x.pgm")
        else:
            assert np.abs(decode(content, "x.pgm")[..., 0].astype(int) - wanted).max() <= 1


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


# Many images: on all cores


@pytest.fixture
def sources(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """The same 60 images as a folder, a zip and a compressed tar."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in range(60):
        (folder / f"{index:03d}.png").write_bytes(encoded(rng.integers(0, 256, (4 + index % 3, 5, 3), dtype=np.uint8)))
    shutil.make_archive(str(tmp_path / "images"), "zip", folder)
    shutil.make_archive(str(tmp_path / "images"), "gztar", folder)
    return [folder, tmp_path / "images.zip", tmp_path / "images.tar.gz"]


def images_of(tree: Tree) -> list[collection.Image]:
    return [collection.Image(path, "a", "", from_file(tree, path)) for path in tree.paths if path.endswith(".png")]


def test_processes_and_threads_give_what_one_image_after_the_other_gives(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK", (7, 4 * 5 * 3 * 5))  # five of the first image's size fit
    monkeypatch.setattr(decoding, "cores", lambda: [0, 1])
    for source in sources:
        with open_tree(source) as tree:
            images = images_of(tree)
            wanted = [(image, image.pixels()) for image in images]
            assert len(wanted) == 60
            for many in (1, 1000):
                monkeypatch.setattr(decoding, "MANY", many)
                found = list(decoding.decoded(images))
                assert [image.name for image, _ in found] == [image.name for image, _ in wanted]
                for (_, got), (_, pixels) in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("place", [1, 30, 185])
def test_no_part_holds_more_than_its_bytes_and_an_image_whatever_the_mix(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Ten large images stand among small ones, where those that a part's size is chosen by are all small."""
    monkeypatch.setattr(decoding, "CHUNK", (256, 4000))
    monkeypatch.setattr(decoding, "MANY", 1)
    monkeypatch.setattr(decoding, "cores", lambda: [0, 1])
    sides = [30 if place <= number < place + 10 else 2 for number in range(200)]
    arrays = [np.full((side, side, 3), number, np.uint8) for number, side in enumerate(sides)]
    images = [collection.Image(str(number), "a", "", partial(np.asarray, each)) for number, each in enumerate(arrays)]
    parts = list(decoding.decoded_parts(images))
    assert max(len(content) for _, _, content in parts) < 4000 + 30 * 30 * 3
    assert [image.name for part, _, _ in parts for image in part] == [image.name for image in images]
    assert [shape for _, shapes, _ in parts for shape in shapes] == [array.shape for array in arrays]
    assert b"".join(content for _, _, content in parts) == b"".join(array.tobytes() for array in arrays)


@pytest.mark.parametrize("many", [1, 1000])
def test_a_damaged_image_among_many_is_named(sources: list[Path], monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(decoding, "MANY", many)
    monkeypatch.setattr(decoding, "cores", lambda: [0, 1])
    broken = sources[0] / "041.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with open_tree(sources[0]) as tree, pytest.raises(StageError, match=r"041\.png: unreadable or truncated"):
        list(decoding.decoded(images_of(tree)))


@pytest.mark.parametrize("many", [1, 1000])
def test_all_damaged_images_are_known_at_once(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch, many: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first dozen by name, whichever they are: those that a part's size is chosen by too, and the last."""
    monkeypatch.setattr(decoding, "MANY", many)
    monkeypatch.setattr(decoding, "CHUNK", (7, 1 << 20))
    monkeypatch.setattr(decoding, "cores", lambda: [0, 1])
    broken = [*range(0, 48, 4), 58, 59]
    for number in broken:
        (sources[0] / f"{number:03d}.png").write_bytes(b"no image")
    with open_tree(sources[0]) as tree, pytest.raises(StageError) as caught:
        list(decoding.decoded(images_of(tree)))
    heading, *named, last = str(caught.value).splitlines()
    assert (heading, last) == ("14 of 60 images are refused:", "  and 2 more")
    assert [line.partition(".png: unreadable")[0][-3:] for line in named] == [f"{n:03d}" for n in broken[:12]]
    assert capsys.readouterr() == ("", "")


def test_what_is_damaged_is_told_of_the_images_that_there_was_time_for() -> None:
    """Of a thousand that take 5 ms each none is begun after 200 ms, whether they are sound or not."""

    def slow(number: int, sound: bool) -> np.ndarray:
        time.sleep(0.005)
        if not sound:
            raise StageError(f"{number}: unreadable")
        return np.zeros((1, 1, 1), np.uint8)

    def images(sound: bool) -> list[collection.Image]:
        return [collection.Image(str(n), "a", "", partial(slow, n, sound)) for n in range(1000)]

    assert 0 < len(list(decoding.decoded(images(sound=True), 0.2))) < 1000
    with pytest.raises(StageError, match=r"^(\d+) of \1 images are refused"):
        list(decoding.decoded(images(sound=False), 0.2))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads decode")
def test_nobody_decodes_on_when_the_stage_is_killed(tmp_path: Path) -> None:
    """Each process says which it is, and would sleep for a minute."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from pipeline.datasets import collection, decode\n"
        "decode.MANY, decode.CHUNK, decode.cores = 1, (1, 1), lambda: [0, 1]\n"
        "me = os.getpid()\n"
        "def sleep():\n"
        "    if os.getpid() == me:\n"
        "        return np.zeros((1, 1, 1), np.uint8)\n"
        "    (Path(sys.argv[1]) / str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "list(decode.decoded([collection.Image('x', 'a', '', sleep)] * 8))\n"
    )
    stage = subprocess.Popen([sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": str(repo.ROOT)})
    wait_until(lambda: any(tmp_path.iterdir()))
    stage.kill()
    stage.wait()
    wait_until(lambda: not any(repo.running(int(path.name)) for path in tmp_path.iterdir()))


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads decode")
def test_a_process_that_is_killed_ends_the_stage_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MANY", 1)
    monkeypatch.setattr(decoding, "CHUNK", (1, 1))
    monkeypatch.setattr(decoding, "cores", lambda: [0, 1])
    me = os.getpid()

    def sound() -> np.ndarray:
        return np.zeros((1, 1, 1), np.uint8)

    def killed() -> np.ndarray:
        assert os.getpid() != me
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    for before in (1, 3, 30):  # found out when its own result is asked for, or when another image is handed over
        pixels = [*[sound] * before, killed, *[sound] * 30]
        found = decoding.decoded([collection.Image("x", "a", "", each) for each in pixels])
        with pytest.raises(PassingError, match="was killed, perhaps for want of memory"):
            deque(time.sleep(0.02) for _ in found)
