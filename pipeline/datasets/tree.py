"""The files below a source, read the same way from a folder, a zip and a tar, without unpacking anything.

An archive with a member outside its own folder is refused as a whole. Reading is safe from several threads, and from
forked processes.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import posixpath
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, cast

from pipeline.stage import StageError

COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 (closed by _decompressed)
}
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, NotImplementedError)
LARGEST_FILE = 1 << 30  # bytes; the largest file of a known data set (icml_face_data.csv) has 0.3 GB
MOST_FILES = 5_000_000  # of a source; ImageNet has 1.4 million
BOMB = 100  # times its own size is what no archive of images unpacks to; below LARGEST_FILE it does not matter


class Tree:
    """Files by their path below the source, `/` between the parts."""

    def __init__(self, label: str, title: str, paths: Iterable[str]) -> None:
        self.label = label  # for messages
        self.title = title
        self.paths = sorted(path for path in paths if not _hidden(path))
        if len(self.paths) > MOST_FILES:
            raise StageError(f"{label}: more than {MOST_FILES:,} files, which no data set here has; it is refused")

    def open(self, path: str) -> IO[bytes]:
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        """The content of one file; raises StageError if it cannot be read."""
        try:
            with self.open(path) as file:
                content = file.read(LARGEST_FILE + 1)
        except DAMAGED as error:
            raise StageError(f"{self.label}: {path}: cannot be read: {error}") from None
        if len(content) > LARGEST_FILE:
            raise StageError(f"{self.label}: {path}: larger than {LARGEST_FILE >> 20} MiB, which no file should be")
        return content

    def close(self) -> None:
        pass

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FolderTree(Tree):
    def __init__(self, folder: Path, only: Iterable[str] | None = None) -> None:
        self.folder = folder
        super().__init__(str(folder), folder.resolve().name, _walk(folder) if only is None else only)

    def open(self, path: str) -> IO[bytes]:
        return (self.folder / path).open("rb")


class ZipTree(Tree):
    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as opened:
            try:
                self.archive, self.process = opened.enter_context(zipfile.ZipFile(path)), os.getpid()
                members = self.archive.infolist()
                locked = next((info.filename for info in members if info.flag_bits & 1), None)
                if locked:
                    raise StageError(f"{path}: {locked} is encrypted; unpack it and set dataset.source to the folder")
                self.links = {info.filename: self.archive.read(info).decode() for info in members if _zip_link(info)}
            except (*DAMAGED, UnicodeDecodeError) as error:
                raise StageError(f"{path}: damaged or incomplete zip archive ({error}); fetch it again") from None
            _refuse_outside(path, ((info.filename, self.links.get(info.filename)) for info in members))
            if sum(info.file_size for info in members) > _most_bytes(path):
                raise _bomb(path)
            opened.pop_all()
        super().__init__(str(path), path.stem, (info.filename for info in members if not info.is_dir()))

    def open(self, path: str) -> IO[bytes]:
        if self.process != os.getpid():  # a fork shares its parent's place in the file
            self.archive.fp, self.process = Path(self.label).open("rb"), os.getpid()  # noqa: SIM115 (closed with it)
        try:
            return self.archive.open(_follow(path, self.links))
        except KeyError:
            raise zipfile.BadZipFile(f"links to {_follow(path, self.links)}, which the archive lacks") from None

    def close(self) -> None:
        self.archive.close()


class TarTree(Tree):
    """A tar, read in place; a compressed one is decompressed once into an unnamed temporary file."""

    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as opened:
            self.file = opened.enter_context(_decompressed(path))
            try:
                members = _tar_members(self.file)
            except DAMAGED as error:
                raise StageError(f"{path}: damaged or incomplete tar archive ({error}); fetch it again") from None
            self.links = {_tidy(member.name): _target(member) for member in members if member.issym() or member.islnk()}
            _refuse_outside(path, ((member.name, self.links.get(_tidy(member.name))) for member in members))
            odd = next((m.name for m in members if m.ischr() or m.isblk() or m.isfifo() or m.issparse()), None)
            if odd:
                raise StageError(f"{path}: member {odd!r} is no ordinary file; the archive is refused")
            opened.pop_all()
        self.members = {_tidy(member.name): member for member in members if member.isreg()}
        super().__init__(str(path), path.name.split(".")[0], [*self.members, *self.links])

    def open(self, path: str) -> IO[bytes]:
        member = self.members.get(_follow(path, self.links))
        if member is None:
            raise tarfile.ReadError(f"links to {_follow(path, self.links)}, which the archive lacks")
        return io.BytesIO(os.pread(self.file.fileno(), member.size, member.offset_data))  # threads and forks alike

    def close(self) -> None:
        self.file.close()


def open_tree(path: Path) -> Tree:
    """The files of a folder, of an archive (known by its content, not its name), or of one table (`*.csv`)."""
    if path.is_dir():
        return FolderTree(path)
    if path.suffix.lower() == ".csv":
        return FolderTree(path.parent, only=[path.name])
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return ZipTree(path)
    if _is_tar(path) or ".tar" in path.suffixes or path.suffix == ".tgz":
        return TarTree(path)
    raise StageError(f"{path}: neither a folder nor a zip or tar archive; give dataset.source one of these")


def _walk(folder: Path) -> list[str]:
    """Paths of all files below `folder`; links are followed, circles are not."""
    paths = []
    above: dict[str, set[str]] = {}  # folder -> where it and those above it really are
    for root, folders, files in os.walk(folder, followlinks=True):
        real, way = os.path.realpath(root), above.get(os.path.dirname(root), set())
        if real in way:
            folders.clear()
            continue
        above[root] = way | {real}
        for file in files:
            path = Path(root, file).relative_to(folder).as_posix()
            try:
                path.encode("utf-8")
            except UnicodeEncodeError:
                raise StageError(f"{folder}: {os.fsencode(path)!r}: the name is not UTF-8; rename the file") from None
            paths.append(path)
    return paths


def _hidden(path: str) -> bool:
    """What operating systems leave beside the data: `.DS_Store`, `__MACOSX/`, `Thumbs.db`."""
    parts = path.split("/")
    return parts[-1] == "Thumbs.db" or any(part == "__MACOSX" or part.startswith(".") for part in parts if part != ".")


def _refuse_outside(archive: Path, members: Iterable[tuple[str, str | None]]) -> None:
    """Raise if a member's name, or where a link leads, is outside the archive's own folder."""
    for name, target in members:
        if _absolute(name) or ".." in name.replace("\\", "/").split("/"):
            raise StageError(f"{archive}: member {name!r} lies outside the archive's folder; the archive is refused")
        if target is not None and (_absolute(target) or _beside(name, target).split("/")[0] == ".."):
            raise StageError(f"{archive}: member {name!r} links to {target!r}, outside; the archive is refused")


def _absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or bool(re.match("[A-Za-z]:", name)) or "\0" in name


def _beside(name: str, target: str) -> str:
    """Where a link at `name` to `target` leads."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target.replace("\\", "/")))


def _follow(path: str, links: dict[str, str]) -> str:
    """Where a link ends, within the archive."""
    for _ in range(8):
        if path not in links:
            break
        path = _beside(path, links[path])
    return path


def _zip_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _target(link: tarfile.TarInfo) -> str:
    """Where a link leads, relative to the folder it lies in (a hard link is stored relative to the archive's root)."""
    if link.issym() or _absolute(link.linkname):
        return link.linkname
    return posixpath.relpath(link.linkname, posixpath.dirname(_tidy(link.name)) or ".")


def _tidy(name: str) -> str:
    return name.removeprefix("./")


def _tar_members(file: IO[bytes]) -> list[tarfile.TarInfo]:
    """The members; raises ReadError for a file that ends too early, which tarfile takes for whole."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        members = archive.getmembers()
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it has no end")
    return members


def _most_bytes(archive: Path) -> int:
    """How much an archive may unpack to."""
    return max(LARGEST_FILE, BOMB * archive.stat().st_size)


def _bomb(archive: Path) -> StageError:
    size = archive.stat().st_size
    return StageError(f"{archive}: unpacks to more than {BOMB} times its {size:,} bytes; the archive is refused")


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except DAMAGED:
        return False


def _decompressed(path: Path) -> IO[bytes]:
    file = path.open("rb")
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if head.startswith(magic)), None)
    if opener is None:
        return file
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (closed by TarTree)
    try:
        with file, opener(file) as compressed:
            remaining = _most_bytes(path)
            while part := compressed.read(1 << 20):
                plain.write(part)
                remaining -= len(part)
                if remaining < 0:
                    raise _bomb(path)
    except StageError:
        plain.close()
        raise
    except DAMAGED as error:
        plain.close()
        raise StageError(f"{path}: damaged or incomplete archive ({error}); fetch it again") from None
    plain.seek(0)
    return plain
