"""Archives and folders read alike, and no archive reaches outside its own folder."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.datasets.tree import open_tree
from pipeline.stage import StageError
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
