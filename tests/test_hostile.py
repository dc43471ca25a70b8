"""Hostile and broken input: each case with the message that its author gets, or what becomes of it where it is fine.

Cases that need more than a line to make are in tests/datasets, tests/networks and tests/params/test_settings.py.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.datasets import tree as trees_module
from pipeline.datasets.decode import decode
from pipeline.datasets.tree import open_tree
from pipeline.inference import loading
from pipeline.params import faults
from pipeline.params.read import load_params
from pipeline.stages import fetch
from pipeline.training import resume
from tests import repo, trees

BASE = YAML(typ="safe").load((trees.ROOT / "params.yaml").read_text(encoding="utf-8"))


def one_line_each(error: pytest.ExceptionInfo[StageError]) -> str:
    text = str(error.value)
    assert text
    assert "Traceback" not in text
    assert max(map(len, text.splitlines())) < 1000
    return text


# params.yaml: one key set, and what is said

WRONG: tuple[tuple[str, Any, str], ...] = (
    ("train.epoch", 3, "train.epoch: unknown key; did you mean 'epochs'?"),
    ("train.epochs", 0, "train.epochs: got 0; wanted greater than 0"),
    ("train.epochs", -1, "train.epochs: got -1; wanted greater than 0"),
    ("train.epochs", 1.5, "train.epochs: got 1.5; wanted a whole number"),
    ("train.epochs", "5", "train.epochs: got '5'; wanted a whole number"),
    ("train.epochs", True, "train.epochs: got True; wanted a whole number"),
    ("train.epochs", None, "train.epochs: got None; wanted a whole number"),
    ("train.epochs", [5], "train.epochs: got [5]; wanted a whole number"),
    ("train.lr", 0, "train.lr: got 0; wanted greater than 0"),
    ("train.lr", float("nan"), "train.lr: got nan; wanted"),
    ("train.lr", float("inf"), "train.lr: got inf; wanted"),
    ("train.lr", "1e-3x", "train.lr: got '1e-3x'; wanted a number"),
    ("train.batch_size", 1, "train.batch_size: got 1; wanted greater than or equal to 2"),
    ("train.device", "tpu", "train.device: got 'tpu'; choose from auto, cpu, cuda, mps"),
    ("train.optimizer", "Adam", "train.optimizer: got 'Adam'; choose from adamw"),
    ("train.label_smoothing", 1.0, "train.label_smoothing: got 1.0; wanted less than 1"),
    ("train.warmup_epochs", 25, "train.warmup_epochs: 25 leaves none of 25 epochs"),
    ("train", None, "train: got None; wanted keys and values"),
    ("train", [], "train: got []; wanted keys and values"),
    ("dataset.name", "imagenet", "dataset.name: got 'imagenet'; choose from digits"),
    ("dataset.name", "../../etc", "dataset.name: got '../../etc'; choose from digits"),
    ("dataset.name", "folder", "dataset.source: the data set 'folder' needs"),
    ("dataset.source", 5, "dataset.source: got 5; wanted text"),
    ("dataset.image_size", 7, "dataset.image_size: got 7; wanted greater than or equal to 8"),
    ("dataset.image_size", 100_000, "dataset.image_size: got 100000; wanted less than or equal to 1024"),
    ("dataset.imbalance", 0.5, "dataset.imbalance: got 0.5; wanted greater than or equal to 1"),
    ("split.val_fraction", 0, "split.val_fraction: got 0; wanted greater than 0"),
    ("split.val_fraction", 1, "split.val_fraction: got 1; wanted less than 1"),
    ("split.seed", -1, "split.seed: got -1; wanted"),
    ("split.seed", 2**32, "split.seed: got 4294967296; wanted"),
    ("split.duplicates", True, "split.duplicates: got True; choose from keep, drop, error"),
    ("replicates", [], "replicates: got []; wanted one or more"),
    ("replicates", [0, 0], "replicates: [0, 0] names a seed twice"),
    ("replicates", 3, "replicates: got 3; wanted a list"),
    ("replicates", ["a"], "replicates.0: got 'a'; wanted a whole number"),
    ("augment.flip", "yes", "augment.flip: got 'yes'; wanted true or false"),
    ("augment.light.crop", 1.0, "augment.light.crop: got 1.0; wanted less than 1"),
    ("augment.light.rotate", 181, "augment.light.rotate: got 181; wanted"),
    ("models", {}, "models: got {}; wanted one or more"),
    ("models", None, "models: got None; wanted keys and values"),
    ("models.cnn", None, "models.cnn"),
    ("models.cnn.family", "resnet", "models.cnn.family: got 'resnet'; choose from timm, hybrid, tiny"),
    ("models.cnn.pretrained", 3, "models.cnn.pretrained: got 3; wanted"),
    ("models.cnn.train", {"epoch": 1}, "models.cnn.train.epoch: unknown key"),
    ("models.cnn.augment", {"light": 1}, "models.cnn.augment.light: got 1; wanted keys and values"),
    ("models.hybrid.heads", 5, "models.hybrid.heads: 5 does not divide dim 96"),
    ("models.a b", BASE["models"]["cnn"], "models.a b: use letters, digits and underscores, a letter first"),
    ("models.-rf", BASE["models"]["cnn"], "models.-rf: use letters"),
    ("models.a/../b", BASE["models"]["cnn"], "use letters, digits and underscores"),
    ("models.größe", BASE["models"]["cnn"], "models.größe: use letters"),
    ("models." + "x" * 101, BASE["models"]["cnn"], "100 at most"),
    ("models.CNN", BASE["models"]["cnn"], "models.cnn: differs from CNN in case alone"),
    ("models.1st", BASE["models"]["cnn"], "models.1st: use letters"),
    ("models.", BASE["models"]["cnn"], "use letters, digits"),
    ("published", [{"table": "T", "dataset": "digits", "rows": {"a": {}}}], "published.0.rows.a: has no number"),
    ("published", {"a": 1}, "published: got {'a': 1}; wanted a list"),
    ("surprise", 1, "surprise: unknown key; choose from dataset, split"),
    ("train.lr", "x" * 10_000, "train.lr: got 'xxx"),
)


@pytest.mark.parametrize(("key", "value", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_named_with_what_is_wanted(key: str, value: Any, told: str) -> None:
    content = YAML(typ="safe").load((trees.ROOT / "params.yaml").read_text(encoding="utf-8"))
    if (key.startswith("models.") and key.count(".") == 1) or key == "models.a/../b":
        content["models"][key.removeprefix("models.")] = value
    else:
        trees.put_settings(content, {key: value})
    with pytest.raises(StageError) as error:
        faults.parse(content)
    assert told in one_line_each(error)


LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
FILES: tuple[tuple[bytes, str], ...] = (
    (b"", "top level: got None; wanted keys and values"),
    (b"\xff\xfe\x00", "not readable as YAML"),
    (b"a: [1, 2", "not readable as YAML"),
    (b"a: 1\na: 2\n", "not readable as YAML"),
    (b"- 1\n", "top level: got [1]; wanted keys and values"),
    (b"!!python/object/apply:os.system ['false']\n", "params.yaml"),
    (LAUGHS.encode(), "its aliases (&, *) stand for more than 1,000,000 values"),
    (b"a: &a\n  b: *a\n", "its aliases (&, *) stand for more than"),
    (b"[" * 20_000, "nested too deeply"),
    (b"a: " + b"x" * 1_000_001, "larger than 1,000,000 bytes"),
    (b"\t\n", "params.yaml"),
    (b"a: \x00\n", "not readable as YAML"),
    (b"a: " + b"9" * 5000, "line 1 has a number of 5,000 digits; no setting has as many"),
    (b"\n\na: 0x" + b"f" * 5000, "line 3 has a number of 5,002 digits"),
    (b"a: 2026-13-41", "not readable as YAML: ValueError: month must be in 1..12"),
    (b"a: !!int b", "not readable as YAML: ValueError"),
    (b"a: !!bool b", "not readable as YAML: KeyError"),
    (b'a: "\\UFFFFFFFF"', "not readable as YAML: OverflowError"),
    (b'a: "\\ud800"', "got '\\ud800', with a character that cannot be printed; leave it out"),
    (b'"\\e[31m": 1', "got '\\x1b[31m', with a character that cannot be printed; leave it out"),
    (b"? [a]\n: 1\n", "('a',): got ('a',); wanted a key that is text"),
    (b"? {a: 1}\n: 1\n", "not readable as YAML"),
    (b"1: 1\n", "1: got 1; wanted a key that is text"),
    (b"a: *b\n", "not readable as YAML"),
    (b"%YAML 9.1\n---\na: 1\n", "not readable as YAML"),
    (b"a: 1\n---\na: 2\n", "not readable as YAML"),
    ("a: 1\n".encode("utf-16"), "not readable as YAML"),
    (b"\xef\xbb\xbfa: 1\n", "a: unknown key; choose from dataset"),
)


@pytest.mark.parametrize(("text", "told"), FILES, ids=lambda value: str(value)[:30])
def test_a_params_yaml_that_is_none_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    path = trees.put(tmp_path / "params.yaml", text)
    with pytest.raises(StageError) as error:
        load_params(path)
    assert told in one_line_each(error)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "params.yaml")
    with pytest.raises(StageError) as error:
        load_params(tmp_path / "params.yaml")
    assert re.search("cannot be read: Is a directory|neither a file nor a link to one", one_line_each(error))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
KEYS = sorted(
    [f"{section}.{key}" for section in ("dataset", "split", "augment", "train") for key in BASE[section]]
    + [f"models.hybrid.{key}" for key in BASE["models"]["hybrid"]]
    + list(BASE)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_whatever_a_setting_is_it_is_taken_or_refused_and_never_crashes(key: str, value: Any) -> None:
    content = YAML(typ="safe").load((trees.ROOT / "params.yaml").read_text(encoding="utf-8"))
    trees.put_settings(content, {key: value})
    try:
        study = faults.parse(content)
    except StageError as error:
        said = str(error)
        assert said.startswith("params.yaml: ")
    else:
        assert all(study.model_train(name).epochs > 0 for name in study.models)


# Archives


def zipped(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    return path


def tarred(path: Path, kind: bytes, name: str = "a/x.png", target: str = "", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return path


def header(kind: bytes, size: int, name: str = "a/x.png") -> bytes:
    """A member of a tar without its content."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def tar(path: Path, *parts: bytes, kind: str = "gz") -> Path:
    """A compressed tar, part by part."""
    pack = {"gz": gzip.compress, "bz2": bz2.compress}[kind]
    return trees.put(path, pack(b"".join(parts) + bytes(1024)))


def record(text: str) -> bytes:
    """A pax header of one record, such as `size=-512`."""
    length = next(n for n in range(len(text), len(text) + 9) if len(f"{n} {text}\n") == n)
    content = f"{length} {text}\n".encode()
    return header(tarfile.XHDTYPE, len(content)) + content.ljust(512, b"\0")


def overlapping(path: Path) -> Path:
    """A zip whose list names one member's data 60 times, and whose end says that there is one."""
    content = zipped(path, {"a/x.png": bytes(20_000)}).read_bytes()
    entry, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    many = 60 * content[entry:end]
    return trees.put(path, content[:entry] + many + content[end:][:12] + struct.pack("<I", len(many)) + content[-6:])


OUTSIDE = ("../x.png", "a/../../x.png", "/etc/x.png", "C:\\x.png", "..\\x.png", "a\\..\\..\\x.png", "\\\\host\\x.png")
ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    **{
        f"zip member {name}": (lambda f, name=name: zipped(f / "d.zip", {name: b"1"}), "the archive is refused")
        for name in OUTSIDE
    },
    **{
        f"tar member {name}": (
            lambda f, name=name: tarred(f / "d.tar", tarfile.REGTYPE, name),
            "the archive is refused",
        )
        for name in OUTSIDE
    },
    **{
        f"zip link to {target}": (
            lambda f, target=target: zipped(f / "d.zip", {}, {"a/x.png": target}),
            "outside; the archive is refused",
        )
        for target in ("../../x", "/etc/passwd", "..\\..\\x")
    },
    **{
        f"tar {word} link to {target}": (
            lambda f, kind=kind, target=target: tarred(f / "d.tar", kind, target=target),
            "outside; the archive is refused",
        )
        for word, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE))
        for target in ("../../x", "/etc/passwd")
    },
    **{
        f"tar with a {word}": (lambda f, kind=kind: tarred(f / "d.tar", kind), "is no ordinary file")
        for word, kind in (("device", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE))
    },
    "empty zip file": (lambda f: trees.put(f / "d.zip", b""), "damaged or incomplete zip"),
    "zip of noise": (lambda f: trees.put(f / "d.zip", b"PK\x03\x04" + bytes(100)), "damaged or incomplete zip"),
    "tar of noise": (lambda f: trees.put(f / "d.tar", b"x" * 600), "damaged or incomplete tar"),
    "gzip of noise": (lambda f: trees.put(f / "d.tar.gz", b"\x1f\x8b" + bytes(50)), "damaged or incomplete"),
    "empty tar.gz": (lambda f: trees.put(f / "d.tar.gz", gzip.compress(b"")), "damaged or incomplete tar"),
    "a text": (lambda f: trees.put(f / "d.rar", b"Rar!"), "neither a folder nor a zip or tar archive"),
    "zip bomb": (lambda f: zipped(f / "d.zip", {"a/x.png": bytes(3_000_000)}), "unpacks to more than 100 times"),
    "gzip bomb": (lambda f: trees.put(f / "d.tar.gz", gzip.compress(bytes(3_000_000))), "unpacks to more than 100"),
    "bzip2 bomb": (lambda f: trees.put(f / "d.tar.bz2", bz2.compress(bytes(3_000_000))), "unpacks to more than 100"),
    "xz bomb": (lambda f: trees.put(f / "d.tar.xz", lzma.compress(bytes(3_000_000))), "unpacks to more than 100"),
    "a link of 900 kB": (lambda f: zipped(f / "d.zip", {}, {"a/x.png": "x" * 900_000}), "is a link of 900,000 bytes"),
    "a pax header of 900 kB": (
        lambda f: tar(f / "d.tar.gz", header(tarfile.XHDTYPE, 900_000), b"9" * 900_096),
        "a header of 900,000 bytes",
    ),
    "a global pax header of 900 kB": (
        lambda f: tar(f / "d.tar.gz", header(tarfile.XGLTYPE, 900_000), b"9" * 900_096),
        "a header of 900,000 bytes",
    ),
    "a GNU name of 900 kB": (
        lambda f: tar(f / "d.tar.gz", header(tarfile.GNUTYPE_LONGNAME, 900_000), b"9" * 900_096),
        "a header of 900,000 bytes",
    ),
    "1,000 headers before a member": (
        lambda f: tar(f / "d.tar.gz", 1000 * header(b"x", 0), header(b"0", 0)),
        "recursion",
    ),
    "a member of negative size": (lambda f: tar(f / "d.tar.gz", header(b"0", -512)), "negative size"),
    "a negative size in a pax header": (
        lambda f: tar(f / "d.tar.gz", record("size=-512"), header(b"0", 0)),
        "negative",
    ),
    "a sparse member": (
        lambda f: tar(
            f / "d.tar.gz", record("GNU.sparse.realsize=9999999999"), record("GNU.sparse.map=0,1"), header(b"0", 0)
        ),
        "is no ordinary file",
    ),
    "an empty member 60 times": (
        lambda f: tar(f / "d.tar.bz2", 60 * header(b"0", 0), kind="bz2"),
        "more than 50 files",
    ),
    "a list of overlapping members": (lambda f: overlapping(f / "d.zip"), "more than 50 files"),
    "64 folders in each other": (lambda f: zipped(f / "d.zip", {"a/" * 65 + "x.png": b""}), "in 65 folders; at most"),
    "a name of 60,000 characters": (lambda f: zipped(f / "d.zip", {"a" * 60_000: b""}), "a name of 60,000 characters"),
    "a name with escapes, outside": (
        lambda f: zipped(f / "d.zip", {"../\x1b[2J\n": b""}),
        r"'../\x1b[2J\n' lies outside",
    ),
    "a zip of version 20": (
        lambda f: _edited(zipped(f / "d.zip", {"a/x.png": b""}), b"PK\1\2", 6, b"\xc8"),
        "version 20",
    ),
    "bomb of files": (lambda f: zipped(f / "d.zip", {f"a/{n}.png": b"" for n in range(51)}), "more than 50 files"),
}


def _edited(path: Path, after: bytes, offset: int, content: bytes) -> Path:
    whole = path.read_bytes()
    place = whole.index(after) + offset
    return trees.put(path, whole[:place] + content + whole[place + len(content) :])


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_hostile_archive_is_refused(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_module, "LARGEST_FILE", 1_000_000)
    monkeypatch.setattr(trees_module, "LARGEST_HEADER", 100_000)
    monkeypatch.setattr(trees_module, "MOST_FILES", 50)
    make, told = ARCHIVES[case]
    path = make(tmp_path)
    with pytest.raises(StageError) as error:
        open_tree(path)
    assert told in one_line_each(error)
    assert path.name in str(error.value)


# Images


def saved(mode: str, kind: str, size: tuple[int, int] = (12, 10), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 1 if mode in ("1", "I;16", "I", "F") else None).save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


SHAPES: tuple[tuple[str, bytes, tuple[int, int, int]], ...] = (
    ("CMYK.jpg", saved("CMYK", "jpeg"), (10, 12, 1)),
    ("16-bit.png", saved("I;16", "png"), (10, 12, 1)),
    ("16-bit.tif", saved("I;16", "tiff"), (10, 12, 1)),
    ("two-colour.png", saved("1", "png"), (10, 12, 1)),
    ("palette.png", saved("P", "png"), (10, 12, 1)),
    ("grey with alpha.png", saved("LA", "png"), (10, 12, 1)),
    ("colour with alpha.webp", saved("RGBA", "webp"), (10, 12, 1)),
    ("a PNG called.jpg", saved("RGB", "png"), (10, 12, 1)),
    ("a JPEG called.png", saved("RGB", "jpeg"), (10, 12, 1)),
    ("animated.gif", animated("gif"), (10, 12, 3)),
    ("animated.webp", animated("webp"), (10, 12, 3)),
    ("animated.png", animated("png"), (10, 12, 3)),
    ("one pixel.png", saved("L", "png", (1, 1)), (1, 1, 1)),
)


@pytest.mark.parametrize(("name", "content", "shape"), SHAPES, ids=[name for name, *_ in SHAPES])
def test_an_odd_image_is_read_as_8_bits_of_grey_or_colour_its_first_frame(
    name: str, content: bytes, shape: tuple[int, int, int]
) -> None:
    pixels = decode(content, name)
    assert pixels.dtype == np.uint8
    assert pixels.shape == shape
    if name.startswith("animated"):
        assert pixels[0, 0, 0] > 200 > 100 > pixels[0, 0, 2], "red comes first"


BROKEN: tuple[tuple[str, bytes, str], ...] = (
    ("zero bytes.png", b"", "unreadable or truncated"),
    ("text.jpg", b"not an image", "unreadable or truncated"),
    ("page.png", b"<html>404</html>", "unreadable or truncated"),
    ("half.png", saved("RGB", "png", (64, 64))[:60], "unreadable or truncated"),
    ("half.jpg", saved("RGB", "jpeg", (640, 640))[:-400], "unreadable or truncated"),
    ("half.gif", animated("gif")[:30], "unreadable or truncated"),
    ("half.bmp", saved("RGB", "bmp")[:-50], "unreadable or truncated"),
    ("half.tif", saved("RGB", "tiff")[:60], "unreadable or truncated"),
    ("half.webp", saved("RGB", "webp")[:20], "unreadable or truncated"),
    ("float.tif", saved("F", "tiff"), "pixels of mode F have no fixed range"),
    ("32-bit.tif", saved("I", "tiff"), "pixels of mode I have no fixed range"),
    ("bomb.png", saved("1", "png", (30_000, 3_000)), "30000 x 3000 pixels are too many"),
    ("no header.ppm", b"P6\n99999999 99999999\n255\n", "bad.ppm|pixels are too many|unreadable or truncated"),
)


@pytest.mark.parametrize(("name", "content", "told"), BROKEN, ids=[name for name, *_ in BROKEN])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_broken_image_is_refused_by_name(name: str, content: bytes, told: str) -> None:
    with pytest.raises(StageError) as error:
        decode(content, f"cats/{name}")
    assert any(words in one_line_each(error) for words in told.split("|"))
    assert f"cats/{name}" in str(error.value)


# Classes, tables, lists


NAMES = (
    "a class",
    "größe",
    "猫",
    "-rf",
    "--help",
    "a'b\"c",
    "$(reboot)",
    "a,b",
    "p(x)",
    "NA",
    "null",
    "%s{}",
    "e\u0301",
)


def test_a_class_may_be_called_anything_that_a_folder_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = trees.class_tree(tmp_path / "images", {"train": dict.fromkeys(NAMES, 2), "test": dict.fromkeys(NAMES, 1)})
    trees.study(tmp_path, {"dataset.name": "folder", "dataset.source": str(root)})
    trees.recorded(monkeypatch)
    monkeypatch.chdir(tmp_path)
    fetch.main()
    info = (tmp_path / "data/raw/info.json").read_text(encoding="utf-8")
    assert all(name in info for name in ("größe", "猫", "-rf", "$(reboot)"))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202egnp", "a\x7f"])
def test_a_class_whose_name_cannot_be_shown_as_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = trees.class_tree(tmp_path / "images", {"": {"a": 2, name: 2}})
    trees.study(tmp_path, {"dataset.name": "folder", "dataset.source": str(root)})
    trees.recorded(monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"the class .* cannot be shown as they are .*; rename it") as error:
        fetch.main()
    assert str(error.value).isprintable()
    assert not (tmp_path / "data/raw").exists()


HEAD = "emotion,pixels,Usage\n"
PIXELS = " ".join(["7"] * 48 * 48)
TABLES: tuple[tuple[str, str], ...] = (
    ("", "line 1: columns emotion, pixels and Usage wanted, found "),
    ("emotion,pixels\n", "line 1: columns emotion, pixels and Usage wanted"),
    (f"{HEAD}7,{PIXELS},Training\n", "line 2: emotion is '7'; a code from 0 to 6 wanted"),
    (f"{HEAD},{PIXELS},Training\n", "line 2: emotion is ''"),
    (f"{HEAD}1,{PIXELS}\n", "line 2: Usage is ''; one of Training"),
    (f"{HEAD}1,{PIXELS},Test\n", "line 2: Usage is 'Test'"),
    (f"{HEAD}1,1 2 3,Training\n", "line 2: pixels are not 2,304 numbers"),
    (f"{HEAD}1,{PIXELS.replace('7', '256', 1)},Training\n", "line 2: pixels are not 2,304 numbers from 0 to 255"),
    (f"{HEAD}1,{PIXELS.replace('7', '-1', 1)},Training\n", "line 2: pixels are not 2,304 numbers from 0 to 255"),
    (f"{HEAD}1,{PIXELS.replace('7', 'x', 1)},Training\n", "line 2: pixels are not 2,304 numbers"),
    (f"{HEAD}1,{'7 ' * 600_000},Training\n", "field larger than field limit"),
    (f"{HEAD}1,{PIXELS},Training\n1\n", "line 3: Usage is ''"),
)


@pytest.mark.parametrize(("text", "told"), TABLES, ids=[told for _, told in TABLES])
def test_a_broken_table_is_refused_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = trees.put(tmp_path / "fer2013.csv", text.encode())
    with pytest.raises(StageError) as error, datasets.opened("fer2013", str(path)):
        pass
    assert told in one_line_each(error)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=st.lists(st.lists(st.text(max_size=12), max_size=4), max_size=4))
def test_whatever_a_table_holds_it_is_read_or_refused_and_never_crashes(
    rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = HEAD + "\n".join(",".join(row) for row in rows)
    path = trees.put(tmp_path_factory.mktemp("table") / "fer2013.csv", text.encode("utf-8", "surrogatepass"))
    try:
        with datasets.opened("fer2013", str(path)):
            pass
    except StageError as error:
        said = str(error)
        assert "fer2013.csv" in said


# Weights


class Runs:
    """A pickle that would make a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("owned"),)


def test_a_state_of_a_training_that_holds_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    with resume.opened("k" * 64) as kept:
        kept.folder.mkdir(parents=True, exist_ok=True)
        torch.save({"format": 1, "x": Runs()}, kept.path)
        assert kept.load() is None
    assert "not readable" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


WEIGHTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut short": (lambda f: _cut(f / "weights.safetensors"), "damaged"),
    "weights of noise": (lambda f: (f / "weights.safetensors").write_bytes(bytes(64)), "damaged"),
    "weights that are a pickle": (lambda f: (f / "weights.safetensors").write_bytes(b"\x80\x04."), "damaged"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "damaged"),
    "another class count": (lambda f: _configure(f, classes=["a", "b"]), "size mismatch for"),
    "another network": (lambda f: _configure(f, network={"family": "tiny", "layers": ["conv 4"]}), "state_dict"),
    "no settings": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "settings of another kind": (lambda f: (f / "config.json").write_text("[]"), "damaged"),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_refused_with_the_remedy(trained_folder: Path, tmp_path: Path, case: str) -> None:
    folder = Path(shutil.copytree(trained_folder / "models/tiny-0", tmp_path / "tiny-0"))
    spoil, told = WEIGHTS[case]
    spoil(folder)
    with pytest.raises(StageError) as error:
        loading.load(folder)
    assert told in one_line_each(error)
    assert "`dvc repro train@tiny-0`" in str(error.value)


# Through DVC


def test_through_dvc_too_each_fault_is_one_line(tmp_path: Path) -> None:
    checkout = repo.copy(tmp_path)
    good = (checkout / "params.yaml").read_text()
    evil = zipped(tmp_path / "evil.zip", {"../x.png": b"1"})
    one = trees.class_tree(tmp_path / "one", {"": {"a": 1, "b": 9}})
    for settings_, told in (
        ({"train.epochs": 0}, "versus: params.yaml: train.epochs: got 0; wanted greater than 0"),
        ({"dataset.name": "folder", "dataset.source": str(evil)}, "lies outside the archive's folder"),
        ({"dataset.name": "folder", "dataset.source": str(one)}, "versus: class 'a' has 1 images, too few"),
    ):
        (checkout / "params.yaml").write_text(good)
        repo.change(checkout, settings_)
        output = repo.call(checkout, "dvc", "repro", "split", fails=True)
        assert told in output
        assert "Traceback" not in output
        assert not list(checkout.rglob("*.part"))
