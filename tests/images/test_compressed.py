"""Packed images come back from few bytes as they were; whatever else is read is refused in one line."""

import functools
import io
import json
import lzma
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.datasets.decode import decode
from pipeline.images import compressed
from pipeline.images.codes import jpeg, lanes, predicted
from pipeline.images.compressed import MAGIC, compress, decompress
from pipeline.images.picture import opened

DAMAGED = "^images: damaged, or packed by another version; copy the file again, or pack anew$"
ROOT = Path(__file__).parents[2]


def head_of(data: bytes) -> dict:
    return json.loads(data[len(MAGIC) : data.index(b"\n", len(MAGIC))])


def with_head(data: bytes, **changes: object) -> bytes:
    head = json.dumps({**head_of(data), **changes}).encode()
    return MAGIC + head + data[data.index(b"\n", len(MAGIC)) :]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photos(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with a little noise, (N, S, S, C)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)) for each in small]
    images = np.stack(large)[..., :channels] + rng.normal(0, 3, (count, side, side, channels))
    return images.round().clip(0, 255).astype(np.uint8)


def through_jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    def saved(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
        return np.asarray(opened(file.getvalue(), "x")).reshape(image.shape)

    return np.stack([saved(image) for image in images])


@pytest.mark.parametrize("count", [0, 1, 33])
@pytest.mark.parametrize("side", [1, 3, 16, 17])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("smooth", [False, True])
def test_images_of_any_shape_come_back(count: int, side: int, channels: int, smooth: bool) -> None:
    images = (photos(33, side, channels) if smooth else noise(33, side, side, channels))[:count]
    back = decompress(compress(images))
    assert back.dtype == np.uint8
    assert back.shape == images.shape
    assert (back == images).all()
    assert back.flags.writeable


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_each_form_gives_back_whatever_it_is_given(data: st.DataObject) -> None:
    count, channels = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 3]))
    side = data.draw(st.sampled_from([1, 2, 5, 16]))
    highest = data.draw(st.sampled_from([1, 2, 20, 256]))
    images = noise(count, side, side, channels, seed=data.draw(st.integers(0, 99))) % np.uint16(highest)
    images = images.astype(np.uint8)
    assert (predicted.decode(predicted.encode(images), images.shape) == images).all()
    if side == 16:
        quality = data.draw(st.integers(1, 100))
        assert (jpeg.decode(jpeg.encode(images, quality), images.shape) == images).all()


def test_images_that_need_many_blocks_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(70, 16, 3)
    monkeypatch.setattr(predicted, "MOST_LANES", 32)
    monkeypatch.setattr(jpeg, "MOST_PIXELS", 32 * 16 * 16)
    assert (predicted.decode(predicted.encode(images), images.shape) == images).all()
    parts = jpeg.encode(images, 90)
    assert len(parts) == 1 + 3 * 3
    assert (jpeg.decode(parts, images.shape) == images).all()


def test_a_second_call_and_memory_mapped_images_give_the_same_bytes(tmp_path: Path) -> None:
    images = photos(200, 24, 3)
    np.save(tmp_path / "images.npy", images)
    once = compress(images)
    assert head_of(once)["form"] == "predicted"
    assert compress(np.load(tmp_path / "images.npy", mmap_mode="r")) == once


@pytest.mark.parametrize(("channels", "quality"), [(1, 75), (3, 50), (3, 92)])
def test_images_from_jpeg_files_take_the_bytes_of_their_coefficients(channels: int, quality: int) -> None:
    images = through_jpeg(photos(150, 32, channels), quality)
    assert jpeg.quality(images) == quality
    data = compress(images)
    assert head_of(data)["form"] == f"jpeg {quality}"
    assert len(data) < 0.6 * sum(map(len, predicted.encode(images)))
    assert (decompress(data) == images).all()


def test_nearly_all_of_them_are_exact_and_clipped_ones_are_asked_anew() -> None:
    images = through_jpeg(photos(200, 32, 3), 75)
    images_with_light = through_jpeg((photos(200, 32, 3) * 1.6).clip(0, 255).astype(np.uint8), 75)
    assert (jpeg._coded(images, 75, 3)[1] == images).all((1, 2, 3)).mean() > 0.8
    exact = [(jpeg._coded(images_with_light, 75, n)[1] == images_with_light).mean() for n in (1, 3)]
    assert exact[1] > exact[0]


def test_the_chromas_are_doubled_as_libjpeg_does() -> None:
    """With luma and one chroma flat, what Pillow decodes shows the other chroma."""
    chroma = photos(1, 8, 1)[0, ..., 0] // 4 + 96
    flat = np.full((16, 16), 128, np.uint8)
    picture = Image.merge("YCbCr", [Image.fromarray(each) for each in (flat, flat, chroma.repeat(2, 0).repeat(2, 1))])
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=100, subsampling="4:2:0")
    decoded = np.asarray(opened(file.getvalue(), "x"))
    grey = io.BytesIO()
    Image.fromarray(chroma).save(grey, "JPEG", quality=100)
    planes = [flat[None], np.full((1, 8, 8), 128, np.uint8), np.asarray(opened(grey.getvalue(), "x"))[None]]
    assert (jpeg._coloured(planes)[0] == decoded).all()


def test_a_pillow_that_knows_fewer_formats_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of AVIF, Pillow before 11.3 knows nothing."""
    data = compress(samples()["jpeg 75"])
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")
    monkeypatch.setattr(Image, "ID", [each for each in Image.ID if each != "AVIF"])
    assert (decompress(data) == samples()["jpeg 75"]).all()


def test_images_from_no_jpeg_file_have_no_quality() -> None:
    assert jpeg.quality(photos(100, 32, 3)) is None
    assert jpeg.quality(noise(100, 32, 32, 1)) is None
    assert jpeg.quality(through_jpeg(photos(20, 20, 3), 75)) is None  # not whole blocks


def test_images_that_occur_again_are_kept_once() -> None:
    images = noise(50, 16, 16, 1)
    twice = np.concatenate([images, images[::-1]])
    assert head_of(compress(twice))["distinct"] == 50
    assert len(compress(twice)) < len(compress(images)) + 300
    assert (decompress(compress(twice)) == twice).all()


def test_photos_take_fewer_bytes_than_as_png_and_enlarged_pixels_few() -> None:
    images = photos(300, 48, 1)
    file = io.BytesIO()
    Image.fromarray(images.reshape(-1, 48)).save(file, "PNG", optimize=True)
    assert len(compress(images)) < 0.9 * file.tell()
    enlarged = (noise(100, 8, 8, 1) // 16).repeat(4, 1).repeat(4, 2)
    assert len(compress(enlarged)) < enlarged.nbytes / 16


def test_the_coder_comes_close_to_the_entropy() -> None:
    counts = np.array([[900, 90, 9, 1] + 252 * [0]])
    table, rng = lanes.frequencies(counts), np.random.default_rng(0)
    symbols = rng.choice(4, (500, 64), p=counts[0, :4] / 1000).astype(np.uint8)
    encoder = lanes.Encoder(table, 64)
    for step in symbols[::-1]:
        encoder.put(np.zeros(64, np.uint8), step)
    data = encoder.done()
    shares = counts[0, :4] / 1000
    assert len(data) - 4 * 64 < 1.03 * symbols.size * -(shares * np.log2(shares)).sum() / 8
    decoder = lanes.Decoder(table, 64, data)
    assert (np.stack([decoder.get(np.zeros(64, np.uint8)) for _ in symbols]) == symbols).all()
    with pytest.raises(ValueError, match="words are missing"):
        [decoder.get(np.zeros(64, np.uint8)) for _ in range(99)]


def outcome(data: bytes) -> np.ndarray | str:
    """The images, or why there are none."""
    try:
        return decompress(data)
    except StageError as error:
        return str(error)


@functools.cache
def samples() -> dict[str, np.ndarray]:
    """Images for each form, and some that occur again."""
    return {
        "plain": noise(9, 8, 8, 1) // 64,
        "predicted": photos(150, 20, 1),
        "jpeg 75": through_jpeg(photos(200, 32, 3), 75),
        "repeated": photos(150, 20, 1)[np.arange(300) % 150],
    }


@pytest.mark.parametrize("form", samples())
def test_what_is_damaged_or_truncated_is_refused(form: str) -> None:
    data = compress(samples()[form])
    assert head_of(data)["form"] in (form, "predicted")
    places = [0, 5, len(MAGIC) + 3, *np.linspace(len(MAGIC), len(data) - 1, 40).astype(int)]
    for place in places:
        for bad in (data[:place], data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]):
            found = outcome(bad)
            if isinstance(found, str):
                assert re.fullmatch(f"{DAMAGED}|images: [0-9,]+ bytes of pixels, more than [^\n]*", found)
            else:  # a byte that says nothing of pixels
                assert (found == samples()[form]).all()
    for bad in (b"", MAGIC, MAGIC + b"\n", MAGIC + b"[]\n", data + b"x", MAGIC + b"[" * 100_000 + b"\n"):
        with pytest.raises(StageError, match=DAMAGED):
            decompress(bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [75, 20, 20, 2]},
        {"shape": [150, 20, 20]},
        {"shape": [150, 20, 21, 1]},
        {"shape": [149, 20, 20, 1]},
        {"shape": [151, 20, 20, 1]},
        {"shape": [-1, 20, 20, 1]},
        {"shape": [50, 20, 20, 3]},
        {"shape": [150.0, 20, 20, 1]},
        {"shape": [10**400, 20, 20, 1]},
        {"distinct": 0},
        {"distinct": 151},
        {"distinct": 149},
        {"distinct": True},
        {"form": "plain"},
        {"form": "jpeg 75"},
        {"form": "pickle"},
        {"parts": [1]},
        {"parts": []},
        {"parts": [-5, 10]},
        {"parts": ["a"]},
        {"digest": "0" * 64},
        {"digest": None},
    ],
    ids=str,
)
def test_a_forged_head_is_refused(changes: dict) -> None:
    data = compress(samples()["predicted"])
    assert (decompress(with_head(data)) == samples()["predicted"]).all()
    with pytest.raises(StageError, match=DAMAGED):
        decompress(with_head(data, **changes))


def test_a_forged_digest_of_rows_beyond_the_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = compress(samples()["repeated"])
    monkeypatch.setattr(compressed, "restored", lambda _, size: np.full(size // 4, 150, "<u4").tobytes())
    monkeypatch.setattr(compressed, "_digest", lambda *_: head_of(data)["digest"])
    with pytest.raises(StageError, match=DAMAGED):
        decompress(data)


def test_more_pixels_than_one_is_willing_to_hold_are_refused_before_they_are_held() -> None:
    images = np.zeros((1, 4000, 4000, 1), np.uint8)
    data = compressed.MAGIC + compress(images[:, :8, :8])[len(MAGIC) :]
    with pytest.raises(
        StageError, match=r"^kaggle\.bin: 6,400,000,000 bytes of pixels, more than 1,000,000; pack fewer"
    ):
        decompress(with_head(data, shape=[400, 4000, 4000, 1], distinct=400), "kaggle.bin", most=1_000_000)
    bomb = lzma.compress(bytes(1 << 26), preset=0)  # whose reader needs little memory
    head = {**head_of(data), "form": "plain", "shape": [1, 8, 8, 1], "parts": [len(bomb)]}
    forged = MAGIC + json.dumps(head).encode() + b"\n" + bomb
    tracemalloc.start()
    assert (decompress(forged) == 0).all()  # the first 64 zeros are the image; no more are unpacked
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("bad", [noise(3, 4, 5, 1), noise(3, 4, 4, 2), noise(3, 4, 4), noise(3, 4, 4, 1).astype(int)])
def test_other_arrays_are_no_images(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images are uint8"):
        compress(bad)


def test_reading_needs_numpy_and_pillow_alone(tmp_path: Path) -> None:
    """Of what is installed; `python -I` would find the package no more."""
    (tmp_path / "images").write_bytes(compress(samples()["jpeg 75"]))
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.images.compressed import decompress\n"
        "decompress(Path(sys.argv[1]).read_bytes())\n"
        "print({name.split('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in str(getattr(module, '__file__', ''))})"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path}\n{code}", str(tmp_path / "images")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert eval(done.stdout) <= {"numpy", "PIL"}


@pytest.mark.skipif("VERSUS_DATASETS" not in os.environ, reason="where the data sets are")
@pytest.mark.parametrize(
    ("archive", "form", "most"), [("cifar10", "jpeg 75", 0.2), ("fer2013", "predicted", 0.72), ("mnist", "plain", 0.25)]
)
def test_real_images_take_as_few_bytes_as_is_said(archive: str, form: str, most: float) -> None:
    mode = "RGB" if archive == "cifar10" else "L"
    with zipfile.ZipFile(Path(os.environ["VERSUS_DATASETS"]) / f"{archive}.zip") as file:
        names = [name for name in file.namelist() if name.endswith(("jpg", "png"))]
        images = np.stack([decode(file.read(name), name, mode) for name in names[:: len(names) // 600]])
    data = compress(images)
    assert head_of(data)["form"] == form
    assert len(data) < most * images.nbytes
    assert (decompress(data) == images).all()
