"""Results as zip files: what is written is read again, and what nobody may send is refused before it is unpacked."""

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.anywhere import results
from pipeline.anywhere.results import MANIFEST, SEAL, Manifest
from pipeline.base.errors import StageError
from tests import trees

PACK, KEY = "a" * 64, b"key"
WEIGHTS = "models/cnn-0/weights.safetensors"
NO_RESULT = "no result of a pack, or damaged or cut short; fetch it anew"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A result of one training, of one file."""
    trees.put(tmp_path / "study" / WEIGHTS, bytes(range(256)) * 40)
    file = results.file_of(tmp_path / "study", "a study/cnn-0", "weights", WEIGHTS)
    manifest = Manifest(PACK, {}, [{"name": "a study/cnn-0", "state": "done", "reason": ""}], [file])
    (path,) = results.write(manifest, {"a study": tmp_path / "study"}, tmp_path / "results.zip", 10**6, KEY)
    return path


def rewritten(part: Path, change: Callable[[dict[str, Any]], None], **options: Any) -> None:
    """Change a part's list and seal it again, as somebody can who has the pack."""
    with zipfile.ZipFile(part) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    listing = json.loads(entries[MANIFEST])
    change(listing)
    entries[MANIFEST] = json.dumps(listing).encode()
    entries[SEAL] = results.seal(entries[MANIFEST], KEY).encode()
    with zipfile.ZipFile(part, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def write(out: Path, size: int, part: int, pack: str = PACK) -> list[Path]:
    """Write a result of one training whose weights have so many bytes."""
    trees.put(out.parent / "study" / WEIGHTS, bytes(range(256)) * (size // 256))
    file = results.file_of(out.parent / "study", "a study/cnn-0", "weights", WEIGHTS)
    return results.write(Manifest(pack, {}, [], [file]), {"a study": out.parent / "study"}, out, part, KEY)


def zips(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.zip")}


def refused(part: Path, message: str = NO_RESULT) -> None:
    with pytest.raises(StageError, match=re.escape(message)) as fault:
        results.read([part], {PACK: KEY})
    assert "\n" not in str(fault.value)


def test_what_was_written_is_read(part: Path, tmp_path: Path) -> None:
    (result,) = results.read([part], {PACK: KEY})
    (file,) = result.manifest.files
    result.copy(file, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "study" / WEIGHTS).read_bytes()
    rewritten(part, lambda _: None)
    results.read([part], {PACK: KEY})


def test_it_can_be_named_from_one_folder_and_taken_in_another(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(part.parent)
    (result,) = results.read([Path(part.name)], {PACK: KEY})
    monkeypatch.chdir(tmp_path / "study")
    result.copy(result.manifest.files[0], tmp_path / "here")
    assert (tmp_path / "here").exists()


@pytest.mark.parametrize("name", ["run.zip", "run-2.zip", "run-3.zip", "run-17.zip"])
@pytest.mark.parametrize("content", [b"my own archive", b"a result of another pack"])
def test_what_is_not_of_the_pack_stays_where_a_part_would_lie(name: str, content: bytes, tmp_path: Path) -> None:
    trees.put(tmp_path / name, content)
    if content.startswith(b"a result"):
        write(tmp_path / "elsewhere/run.zip", 512, 10**6, "b" * 64)[0].replace(tmp_path / name)
    before = zips(tmp_path)
    with pytest.raises(
        StageError, match=rf"--out: .*{name} is no result of this pack, .*; move it away, or name"
    ) as fault:
        write(tmp_path / "run.zip", 512, 10**6)
    assert "\n" not in str(fault.value)
    assert zips(tmp_path) == before


def test_of_a_result_that_had_more_parts_those_go_and_nothing_beside_them(tmp_path: Path) -> None:
    beside = ("run-1.zip", "run-02.zip", "run-two.zip", "run-2.zip.zip", "other-2.zip", "2.zip")
    for name in beside:
        trees.put(tmp_path / name, b"mine")
    assert len(write(tmp_path / "run.zip", 40_000, 13_000)) > 4
    (tmp_path / "run-3.zip").unlink()  # taken home
    assert [path.name for path in write(tmp_path / "run.zip", 40_000, 30_000)] == ["run.zip", "run-2.zip"]
    assert zips(tmp_path).keys() == {*beside, "run.zip", "run-2.zip"}
    (result,) = results.read([tmp_path / "run.zip", tmp_path / "run-2.zip"], {PACK: KEY})
    assert all(map(result.has, result.manifest.files))


@pytest.mark.parametrize(
    "path",
    [
        f"../{WEIGHTS}",
        "/etc/passwd",
        "models/cnn-0/../../params.yaml",
        "models/cnn-1/weights.safetensors",  # another training's
        "models/cnn-0/weights.pt",
        "models/cnn-0/epochs/../run.json",
        "data/fit/0/train_images.npy",
        "params.yaml",
        f"{WEIGHTS}\0",
        f"{WEIGHTS}\n",
        "",
        7,
    ],
)
def test_a_file_that_no_training_leaves_is_refused(part: Path, path: Any) -> None:
    rewritten(part, lambda listing: listing["files"][0].update(path=path))
    refused(part)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pack", [PACK]),
        ("machine", "fast"),
        ("trainings", [{"name": "a"}]),
        ("trainings", [{"name": [], "state": "done", "reason": ""}]),
        ("trainings", 3),
        ("files", [["a"]]),
        ("files", [{"training": 1, "kind": "weights", "path": WEIGHTS, "size": 1, "sha256": "0" * 64}]),
        ("files", [{"training": "s/cnn-0", "kind": "weights", "path": WEIGHTS, "size": -1, "sha256": "0" * 64}]),
        ("files", [{"training": "s/cnn-0", "kind": "weights", "path": WEIGHTS, "size": 1, "sha256": "x"}]),
        ("files", [{"training": "s/cnn-0", "kind": "weights", "path": WEIGHTS, "size": 1 << 50, "sha256": "0" * 64}]),
        ("format", 2),
    ],
)
def test_a_list_that_is_none_is_refused(part: Path, key: str, value: Any) -> None:
    rewritten(part, lambda listing: listing.update({key: value}))
    refused(part)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[]", b"null", b"\xff", b"", b'"text"'])
def test_a_list_that_is_no_json_of_ours_is_refused(part: Path, text: bytes) -> None:
    with zipfile.ZipFile(part, "w") as archive:
        archive.writestr(MANIFEST, text)
        archive.writestr(SEAL, results.seal(text, KEY))
    refused(part)


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(part: Path) -> None:
    rewritten(part, lambda _: None, compression=zipfile.ZIP_DEFLATED)
    refused(part)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_a_name_are_refused(part: Path) -> None:
    with zipfile.ZipFile(part, "a") as archive:
        archive.writestr(archive.namelist()[-1], b"another")
    refused(part)


def test_members_that_share_their_bytes_are_refused(part: Path) -> None:
    """Many entries of the directory that lead to the same megabyte would be read as many megabytes."""
    with zipfile.ZipFile(part, "a") as archive:
        archive.writestr("twin", bytes(5000))
        last = archive.infolist()[-1]
        for number in range(9):
            twin = zipfile.ZipInfo(f"twin{number}")
            twin.header_offset, twin.CRC = last.header_offset, last.CRC
            twin.file_size = twin.compress_size = last.file_size
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    refused(part)


def test_a_member_that_says_that_it_is_huge_is_refused(part: Path) -> None:
    content = bytearray(part.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # its entry in the directory
    content[at + 20 : at + 28] = struct.pack("<LL", 0xFFFFFFF0, 0xFFFFFFF0)
    part.write_bytes(content)
    refused(part)


def test_a_member_that_the_list_does_not_name_is_refused(part: Path) -> None:
    with zipfile.ZipFile(part, "a") as archive:
        archive.writestr("../../.bashrc", b"echo")
    refused(part, "has a piece that its list does not name (../../.bashrc); fetch it anew")


def test_a_list_that_was_sealed_with_another_key_is_refused(part: Path) -> None:
    with pytest.raises(StageError, match="changed or forged on its way; refused"):
        results.read([part], {PACK: b"another"})
    with pytest.raises(StageError, match="of a pack that was not made in this checkout"):
        results.read([part], {})
