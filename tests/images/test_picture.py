"""Image files are opened in one place, of a list of formats; none runs a program or takes all memory."""

import ast
import base64
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.commands.predict import predict
from pipeline.datasets import decode as decoding
from pipeline.datasets.decode import decode
from pipeline.images import picture
from pipeline.report.pictures import lossless
from pipeline.trained import answers
from pipeline.trained.serving import Classifier
from tests import repo, trees
from tests.commands.test_predict import saved_test_images

FORM = answers.Packed(8, 1, "crop")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# One place


def test_no_other_module_and_no_notebook_opens_image_files() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in repo.ROOT.glob("pipeline/**/*.py")}
    for path in repo.ROOT.glob("notebooks/*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        sources[path] = "\n".join(re.sub(r"(?m)^[%!].*$", "", "".join(cell["source"])) for cell in cells)
    opening = {path.name for path, source in sources.items() if opens_images(source)}
    assert opening == {"picture.py"}


def opens_images(source: str) -> bool:
    """Whether code calls Pillow's `open` under any name, or another library's reader of images."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "PIL" in str(node.module)]
    names = {alias.asname or alias.name for node in imports for alias in node.names}
    names |= {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.startswith("PIL")
    }
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    readers = re.compile(r"(.*\.)?(imread|imageio|read_image|decode_image|decode_jpeg|decode_png)")
    return any(call.split(".")[0] in names and call.endswith("open") for call in calls) or any(
        readers.fullmatch(call) for call in calls
    )


def test_the_look_for_it_finds_it() -> None:
    for source in (
        "from PIL import Image as P\nP.open(x)",
        "import PIL.Image\nPIL.Image.open(x)",
        "from PIL.Image import open\nopen(x)",
        "import matplotlib.pyplot as plt\nplt.imread(x)",
    ):
        assert opens_images(source)
    assert not opens_images("from PIL import Image\nopen(x)\npath.open('rb')\nImage.new('L', (1, 1))")


# PostScript, and other formats that are not on the list


@pytest.fixture
def postscript(tmp_path: Path) -> bytes:
    """A program that would leave a file, wherever Ghostscript is installed."""
    mark = tmp_path / "owned"
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
        + f"({mark}) (w) file dup (x) writestring closefile\nshowpage\n".encode()
    )


@pytest.fixture(autouse=True)
def _no_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image started a program")

    monkeypatch.setattr(subprocess, "check_call", refuse)
    monkeypatch.setattr(subprocess, "check_output", refuse)


@pytest.mark.usefixtures("trained_study")
def test_postscript_is_run_neither_by_a_data_set_nor_by_predict_nor_by_the_champion_nor_by_the_report(
    tmp_path: Path, postscript: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.class_tree(tmp_path / "images", {"": {"cat": 1, "dog": 1}})
    file = trees.put(root / "cat" / "evil.jpg", postscript)
    with datasets.opened("folder", str(root)) as (_, collection), pytest.raises(StageError, match=r"evil\.jpg.*read"):
        list(decoding.decoded(collection.images))
    good = saved_test_images(tmp_path / "good", 1)[0]
    assert predict([str(file), str(good)], "tiny-0") is False
    output, errors = capsys.readouterr()
    assert output.startswith(f"{good}: ")
    assert f"{file}: unreadable" in errors
    champion = Classifier(Path("models/tiny-0"), 8, 1, "crop")
    for request in (postscript, base64.b64encode(postscript).decode()):
        with pytest.raises(StageError, match="the image: unreadable or truncated image"):
            champion.predict([request])
    with pytest.raises(StageError, match="unreadable"):
        lossless(postscript)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["eps", "pdf", "ico", "tga", "pcx", "sgi", "dds", "icns"])
def test_a_format_that_is_not_on_the_list_is_refused_whatever_the_file_is_called(kind: str) -> None:
    with pytest.raises(StageError, match=r"x\.png: unreadable .*read are AVIF, BMP.*save it as PNG or JPEG"):
        decode(saved(Image.new("RGB", (64, 64)), kind), "x.png")


@pytest.mark.parametrize("suffix", sorted({*picture.SUFFIXES} - {*picture.HEIF}))
def test_every_suffix_that_is_looked_for_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix.upper()}"
    image = Image.fromarray(trees.striped(1, 12, 10, 3, np.random.default_rng(0)))
    (image.convert("1") if suffix == ".pbm" else image).save(path)
    pixels = decode(path.read_bytes(), path.name)
    assert pixels.shape[:2] == (12, 10)
    assert answers.files(str(tmp_path)) == [path]
    if pixels.shape[2] == 3:
        assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 25


# HEIC, where there is a decoder


def heic_head() -> bytes:
    return struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(12)


def test_heic_without_its_decoder_says_what_to_install_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(picture, "find_spec", lambda _: None)
    with pytest.raises(StageError, match=r"x\.jpg: HEIC needs a decoder: `pip install pillow-heif`"):
        decode(heic_head(), "x.jpg")
    root = trees.class_tree(tmp_path / "images", {"": {"cat": 1, "dog": 1}})
    trees.put(root / "dog" / "IMG_1.HEIC", heic_head())
    with (
        pytest.raises(StageError, match=r"dog/IMG_1\.HEIC: HEIC needs a decoder"),
        datasets.opened("folder", str(root)),
    ):
        pass


def test_heic_is_read_where_its_decoder_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    grey = saved(Image.new("RGB", (64, 48), (90, 90, 90)), "heif")
    assert decode(grey, "x.heic", "RGB").shape == (48, 64, 3)


# What takes a machine's memory or time


def test_a_device_a_pipe_a_socket_and_a_folder_are_no_image_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.png"))
        for path in (Path("/dev/zero"), tmp_path / "pipe.png", tmp_path / "socket.png"):
            with pytest.raises(StageError, match="cannot be read: a pipe or a device, not a file"):
                answers.read(path, FORM)
    with pytest.raises(StageError, match="cannot be read: a folder"):
        answers.read(tmp_path, FORM)


def test_a_pipe_among_the_images_of_a_data_set_is_named(tmp_path: Path) -> None:
    root = trees.class_tree(tmp_path / "images", {"": {"cat": 1, "dog": 1}})
    os.mkfifo(root / "dog" / "x.png")
    with (
        datasets.opened("folder", str(root)) as (_, collection),
        pytest.raises(StageError, match=r"dog/x\.png: cannot"),
    ):
        list(decoding.decoded(collection.images))
    with pytest.raises(StageError, match="a pipe or a device"), datasets.opened("folder", str(root / "dog" / "x.png")):
        pass


def test_a_file_larger_than_an_image_may_be_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (picture, answers):
        monkeypatch.setattr(module, "MOST_BYTES", 1 << 20)
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(StageError, match=r"large\.png: larger than 1 MiB"):
        answers.read(path, FORM)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["zTXt", "iCCP", "iTXt"])
def test_text_that_unpacks_to_a_hundred_times_a_png_is_refused(kind: str) -> None:
    head = {"zTXt": b"k\0\0", "iCCP": b"k\0\0", "iTXt": b"k\0\1\0\0\0"}[kind]
    png = trees.encoded(np.zeros((8, 8, 3), np.uint8))
    bomb = png[:33] + chunk(kind.encode(), head + zlib.compress(bytes(3_000_000))) + png[33:]
    with pytest.raises(StageError, match=r"bomb\.png: unreadable.*too large"):
        decode(bomb, "bomb.png")


def test_a_jpeg_of_a_thousand_scans_is_refused_and_a_photo_with_a_film_behind_it_is_read() -> None:
    """Each scan of a progressive JPEG costs a pass over all pixels: 300 KB took 37 seconds."""
    photo = saved(Image.new("L", (64, 64)), "jpeg", progressive=True)
    last = photo[photo.rfind(b"\xff\xda") : -2]
    with pytest.raises(StageError, match="more than 100 scans"):
        decode(photo[:-2] + 1000 * last + b"\xff\xd9", "x.jpg")
    assert decode(photo + 1000 * b"\xff\xda..film", "x.jpg").shape == (64, 64, 1)


@pytest.mark.parametrize("kind", ["gif", "webp", "tiff", "png", "mpo"])
def test_of_many_frames_the_first_is_read_and_no_more(kind: str) -> None:
    many = 30 if kind == "mpo" else 400  # of an MPO, each is a scan
    frames = [Image.new("RGB", (64, 64), (number % 250, 0, 90)) for number in range(many)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    before = time.process_time()
    assert decode(content, "x").shape == (64, 64, 3)
    assert time.process_time() - before < 1


# JPEGs that hold a picture and nothing else


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels).convert(mode), "jpeg", **options)


@pytest.mark.parametrize("wanted", ["", "L", "RGB"])
@pytest.mark.parametrize(
    "content",
    [
        jpeg(),
        jpeg("L"),
        jpeg(progressive=True, optimize=True),
        jpeg(subsampling=0, quality=97),
        jpeg(restart_marker_blocks=1),
        jpeg(comment=b"\xff\xda"),
    ],
    ids=["colour", "grey", "progressive", "4:4:4", "restarts", "comment"],
)
def test_a_plain_jpeg_has_the_pixels_that_pillow_reads(
    content: bytes, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert picture.plain_jpeg(content) is not None
    found = decode(content, "x", wanted)
    monkeypatch.setattr(decoding, "plain_jpeg", lambda _: None)
    np.testing.assert_array_equal(found, decode(content, "x", wanted))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def with_frame_in_no_segment() -> bytes:
    """Its frame's 17 bytes stand in a segment that begins with 0, not 255, and says another width, 4,000."""
    content = jpeg()
    start = content.index(b"\xff\xc0")
    frame = content[start : start + 19]
    fake = b"\x00\xc0" + struct.pack(">HBHHB", 8 + len(frame), 8, 37, 4000, 3) + frame
    return content[:start] + fake + content[start + 19 :]


@pytest.mark.parametrize(
    "content",
    [
        jpeg(exif=turned()),
        jpeg(icc_profile=b"profile"),
        jpeg("CMYK"),
        jpeg()[:-200],
        jpeg()[:30],
        jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),  # 12 bits
        jpeg().replace(b"\xff\xc0\x00\x11\x08\x00\x25\x00\x32", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"),
        with_frame_in_no_segment(),
        with_frame_in_no_segment().replace(b"\x00\xc0", b"\xff\xc0", 1),  # too long for its channels
        jpeg(progressive=True).replace(b"\xff\xd9", bytes.fromhex("ffda0008010100003f00") * 200 + b"\xff\xd9"),
        saved(Image.new("RGB", (4, 4)), "png"),
        b"",
    ],
    ids=[
        "EXIF",
        "profile",
        "CMYK",
        "truncated",
        "header",
        "12 bits",
        "huge",
        "no marker",
        "long",
        "scans",
        "PNG",
        "nothing",
    ],
)
def test_every_other_file_goes_the_long_way(content: bytes) -> None:
    assert picture.plain_jpeg(content) is None
