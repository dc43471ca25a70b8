"""Archives and folders read alike, and no archive reaches outside its own folder."""

import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.datasets import tree as tree_module
from pipeline.datasets.tree import open_tree
from tests.trees import archived, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "data" / "a" / "one.txt", b"1" * 5000)
    put(tmp_path / "data" / "b" / "two.txt", b"2")
    put(tmp_path / "data" / ".DS_Store", b"junk")
    put(tmp_path / "data" / "__MACOSX" / "a" / "._one.txt", b"junk")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gztar", "bztar", "xztar"])
def test_every_kind_of_source_shows_the_same_files(folder: Path, kind: str) -> None:
    with open_tree(folder if kind == "folder" else archived(folder, kind)) as tree:
        assert tree.paths == ["a/one.txt", "b/two.txt"]
        assert [tree.read(path) for path in tree.paths] == [b"1" * 5000, b"2"]
        assert tree.title == "data"


def zip_of(path: Path, name: str, content: bytes = b"x", link: bool = False) -> Path:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16 if link else 0
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.txt", b"good")
        archive.writestr(info, content)
    return path


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "a\\..\\..\\out.txt"])
def test_zip_with_a_member_outside_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StageError, match=r"out\.txt.* outside") as error:
        open_tree(zip_of(tmp_path / "bad.zip", name))
    assert "bad.zip" in str(error.value)


def test_zip_with_a_link_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"'link' links to '\.\./secret'"):
        open_tree(zip_of(tmp_path / "bad.zip", "link", b"../secret", link=True))


def test_link_inside_a_zip_is_followed(tmp_path: Path) -> None:
    with open_tree(zip_of(tmp_path / "good.zip", "below/link.txt", b"../good.txt", link=True)) as tree:
        assert tree.read("below/link.txt") == b"good"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_link_to_nothing_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "zip":
        path = zip_of(tmp_path / "odd.zip", "link.txt", b"gone.txt", link=True)
    else:
        path = tar_of(tmp_path / "odd.tar", "link.txt", tarfile.SYMTYPE, "gone.txt")
    with open_tree(path) as tree, pytest.raises(StageError, match=r"link\.txt: cannot be read: links to gone\.txt"):
        tree.read("link.txt")


def tar_of(path: Path, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../out.txt", tarfile.REGTYPE, ""),
        ("/out.txt", tarfile.REGTYPE, ""),
        ("out.txt", tarfile.SYMTYPE, "../secret"),
        ("out.txt", tarfile.SYMTYPE, "/secret"),
        ("a/out.txt", tarfile.SYMTYPE, "../../secret"),
        ("out.txt", tarfile.LNKTYPE, "../secret"),
        ("out.txt", tarfile.LNKTYPE, "/secret"),
        ("out.txt", tarfile.FIFOTYPE, ""),
    ],
)
def test_tar_with_a_member_outside_is_refused_by_name(tmp_path: Path, name: str, kind: bytes, target: str) -> None:
    with pytest.raises(StageError, match=r"out\.txt.*refused"):
        open_tree(tar_of(tmp_path / "bad.tar", name, kind, target))


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [("a/link.txt", tarfile.SYMTYPE, "../good.txt"), ("a/link.txt", tarfile.LNKTYPE, "good.txt")],
)
def test_links_inside_a_tar_are_followed(tmp_path: Path, name: str, kind: bytes, target: str) -> None:
    with open_tree(tar_of(tmp_path / "good.tar", name, kind, target)) as tree:
        assert tree.read("a/link.txt") == b"good"


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "xztar"])
def test_archive_cut_short_is_refused(folder: Path, kind: str) -> None:
    whole = archived(folder, kind)
    content = whole.read_bytes()
    whole.write_bytes(content[: 2000 if kind == "tar" else len(content) // 2])
    with pytest.raises(StageError, match=r"damaged or incomplete|cannot be read"):
        open_tree(whole)


def test_damaged_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/one.txt", b"first")
    path.write_bytes(path.read_bytes().replace(b"first", b"fIrst"))
    with open_tree(path) as tree, pytest.raises(StageError, match=r"a/one\.txt: cannot be read"):
        tree.read("a/one.txt")


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="neither a folder nor a zip or tar archive"):
        open_tree(put(tmp_path / "notes.txt", b"hello"))


# Names


def test_backslashes_of_a_zip_made_on_windows_part_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(path := tmp_path / "w.zip", "w") as archive:
        archive.writestr("a\\b\\one.txt", b"1")
        archive.writestr(".\\c\\", b"")
    with open_tree(path) as tree:
        assert (tree.paths, tree.folders) == (["a/b/one.txt"], {"a", "a/b", "c"})
        assert tree.read("a/b/one.txt") == b"1"


def unflagged(path: Path, name: bytes) -> Path:
    """A zip whose one member's name does not say that it is UTF-8."""
    path = zip_of(path, "é" * (len(name) // 2) + "x" * (len(name) % 2))
    content = path.read_bytes().replace(("é" * (len(name) // 2) + "x" * (len(name) % 2)).encode(), name)
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for place in range(len(content)):
            if content[place : place + 4] == magic:
                content = content[: place + flags + 1] + b"\0" + content[place + flags + 2 :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "read"),
    [("größe".encode(), "größe"), ("größe".encode("cp437"), "größe"), ("猫.txt".encode(), "猫.txt")],
)
def test_a_zips_name_is_utf8_if_it_can_be_and_cp437_if_not(tmp_path: Path, name: bytes, read: str) -> None:
    with open_tree(unflagged(tmp_path / "d.zip", name)) as tree:
        assert tree.paths == sorted(["good.txt", read])
        assert tree.read(read) == b"x"


def test_a_tars_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "d.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("café.txt"))
    with pytest.raises(StageError, match=r"caf\\xe9\.txt'?: the name is not UTF-8"):
        open_tree(tmp_path / "d.tar")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/one.txt", "./a//one.txt", "a\\one.txt"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("a/one.txt", second, "A/one.txt"):
            archive.writestr(name, b"")
    with pytest.raises(StageError, match=r"two files called 'a/one\.txt'; unpack it and set dataset\.source"):
        open_tree(tmp_path / "d.zip")
    if "\\" not in second:
        with tarfile.open(tmp_path / "d.tar", "w") as tar:
            for name in ("a/one.txt", second):
                tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(StageError, match=r"two files called 'a/one\.txt'"):
            open_tree(tmp_path / "d.tar")


def test_a_link_to_a_folder_of_the_archive_is_refused(tmp_path: Path) -> None:
    """What lies in the folder would be missing under the link's name."""
    (tmp_path / "d/train").mkdir(parents=True)
    put(tmp_path / "d/train/one.txt", b"1")
    (tmp_path / "d/test").symlink_to("train")
    with pytest.raises(StageError, match="test links to a folder of the archive; unpack it"):
        open_tree(archived(tmp_path / "d", "tar"))
    path = zip_of(tmp_path / "e.zip", "folder/link", b"..", link=True)
    with pytest.raises(StageError, match="folder/link links to a folder"):
        open_tree(path)


def test_a_circle_of_links_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "d.zip", "a/link", b"link", link=True)
    with open_tree(path) as tree, pytest.raises(StageError, match="a/link: cannot be read: links to a/link, which"):
        tree.read("a/link")


# Small files of a zip, read by one call

NAMES = ("a/plain.bin", "a/größe.bin", "b.bin")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("streamed", [False, True])  # its sizes then stand behind a file, not before it
def test_a_small_file_is_read_as_zipfile_reads_it(tmp_path: Path, method: int, streamed: bool) -> None:
    contents = {name: bytes(range(256)) * 5 + name.encode() for name in NAMES}
    whole = io.BytesIO()
    whole.seekable = lambda: not streamed  # type: ignore[method-assign]
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    (path := tmp_path / "a.zip").write_bytes(whole.getvalue())
    with open_tree(path) as tree:
        assert isinstance(tree, tree_module.ZipTree)
        assert {name: tree.read(name) for name in tree.paths} == contents
        quick = [tree._at_once(tree.members[name]) for name in NAMES]
    assert quick == ([None] * 3 if method == zipfile.ZIP_BZIP2 else list(contents.values()))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b"a/one.txt", b"a/two.txt", "File name in directory"),  # before the file alone, for the list comes later
        (b"PK\3\4", b"PK\3\5", "Bad magic number"),
        (b"first", b"fIrst", "Bad CRC-32"),
    ],
)
def test_what_stands_before_a_file_is_checked(tmp_path: Path, before: bytes, after: bytes, reason: str) -> None:
    with zipfile.ZipFile(path := tmp_path / "odd.zip", "w") as archive:
        archive.writestr("a/one.txt", b"first")
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    with open_tree(path) as tree, pytest.raises(StageError, match=rf"a/one\.txt: cannot be read: {reason}"):
        tree.read("a/one.txt")


def before_the_first_byte(content: bytes) -> bytes:
    """The list of files is said to begin 20 bytes behind where it does, which puts the file 20 before the archive."""
    end = content.rindex(b"PK\5\6")
    (offset,) = struct.unpack_from("<I", content, end + 16)
    return content[: end + 16] + struct.pack("<I", offset + 20) + content[end + 20 :]


def in_64_bits(place: int, content: bytes) -> bytes:
    """The list says `place` of the file by zip64's field, for which it grows by 12 bytes."""
    listed, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    (size,) = struct.unpack_from("<I", content, end + 12)
    entry = bytearray(content[listed:end])
    struct.pack_into("<H", entry, 30, 12)
    struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
    (name,) = struct.unpack_from("<H", entry, 28)
    entry[46 + name : 46 + name] = struct.pack("<HHQ", 1, 8, place)
    return content[:listed] + entry + content[end : end + 12] + struct.pack("<I", size + 12) + content[end + 16 :]


@pytest.mark.parametrize("place", [-20, (1 << 63) - 1, (1 << 64) - 1])
def test_a_place_that_no_file_has_is_said_and_not_a_traceback(tmp_path: Path, place: int) -> None:
    with zipfile.ZipFile(path := tmp_path / "odd.zip", "w") as archive:
        archive.writestr("a/one.txt", b"first")
    content = path.read_bytes()
    path.write_bytes(before_the_first_byte(content) if place < 0 else in_64_bits(place, content))
    with open_tree(path) as tree, pytest.raises(StageError, match=r"a/one\.txt: cannot be read: "):
        tree.read("a/one.txt")


# Sizes


def test_a_member_that_unpacks_to_more_than_its_size_is_read_no_further(tmp_path: Path) -> None:
    """Its list says 1,000 bytes of 20 MB: a read of all would unpack all."""
    with zipfile.ZipFile(path := tmp_path / "lie.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20_000_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 20_000_000), struct.pack("<I", 1000)))
    tracemalloc.start()
    with open_tree(path) as tree, pytest.raises(StageError, match=r"a\.png: cannot be read: Bad CRC-32"):
        tree.read("a.png")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


def test_a_member_larger_than_a_file_may_be_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    member = tarfile.TarInfo("a.png")
    member.size = 3 << 30
    with path.open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate((3 << 30) + 512 + 1024)  # sparse: it takes no room
    with open_tree(path) as tree, pytest.raises(StageError, match=r"a\.png: cannot be read: larger than 1024 MiB"):
        tree.read("a.png")


def test_a_file_of_several_parts_is_read_whole(tmp_path: Path) -> None:
    for size in (0, 1, tree_module.PART - 1, tree_module.PART, 3 * tree_module.PART, 3 * tree_module.PART + 5):
        content = bytes(range(256)) * (size // 256) + bytes(size % 256)
        put(tmp_path / "d/one.bin", content)
        for source in (tmp_path / "d", archived(tmp_path / "d"), archived(tmp_path / "d", "tar")):
            with open_tree(source) as tree:
                assert tree.read("one.bin") == content


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(StageError, match="a pipe or a device, not a file; give dataset"):
            open_tree(path)
