"""The files below a source, read the same way from a folder, a zip and a tar, without unpacking anything.

An archive with a member outside its own folder is refused as a whole. Reading is safe from several threads, and from
forked processes.
"""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TypeVar, cast

from pipeline.base.errors import StageError, shown

COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 (closed by _decompressed)
}
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, NotImplementedError),
    *(ValueError, struct.error, OverflowError, RecursionError),  # of headers that hold nonsense
)
LARGEST_FILE = 1 << 30  # bytes; the largest file of a known data set (icml_face_data.csv) has 0.3 GB
LARGEST_HEADER = 1 << 20  # bytes that a tar may say of one member before its content
LONGEST_NAME, DEEPEST_NAME = 4096, 64  # characters and folders of a path; Linux opens none that is longer
MOST_FILES = 5_000_000  # of a source; ImageNet has 1.4 million
MANY_FILES = 100_000  # an archive may hold, and more where it has SMALLEST_FILE bytes for each
SMALLEST_FILE = 64
PART = 1 << 20  # bytes read at a time
BOMB = 100  # times its own size is what no archive of images unpacks to; below LARGEST_FILE it does not matter
TOO_LARGE = f"larger than {LARGEST_FILE >> 20} MiB, which no file should be"
UNPACK = "unpack it and set dataset.source to the folder"
GNU_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
LITTER = {  # names, in lower case, of what operating systems and network drives leave beside the data
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"),
    *(".appledouble", "@eadir", "@tmp", "@__thumb", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
}

LOCAL = struct.Struct("<4s2xHH16xHH")  # before a zip's file: magic, flags, compression, lengths of name and extra
USUAL_FLAGS = 0x80E  # how well it is compressed, sizes behind it, a name in UTF-8
SPARE = 256  # bytes for what a zip says beside a name
Member = TypeVar("Member")  # of an archive: what it says of one file


class Tree:
    """Files and folders by their path below the source, `/` between the parts.

    `filled` are the folders that hold files; `hidden` those that are left out because their names begin with a dot.
    """

    def __init__(
        self, label: str, title: str, paths: Iterable[str], folders: Iterable[str] = (), most: int = 0
    ) -> None:
        self.label = label  # for messages
        self.title = title
        found = sorted(paths)
        if len(found) > (most := most or MOST_FILES):
            raise _crowd(label, most)
        _refuse_odd(label, found)
        folders = set(folders).union(_above(found))
        litter = {folder for folder in folders if _hidden(folder)}
        self.paths = [
            path for path in found if (place := path.rpartition("/"))[0] not in litter and not _hidden(place[2])
        ]
        self.filled = _above(self.paths)
        self.folders = folders - litter - {""}
        self.hidden = sorted({_first_hidden(folder) for folder in litter} - {""})

    def open(self, path: str) -> IO[bytes]:
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        """The content of one file; raises StageError if it cannot be read."""
        try:
            with self.open(path) as file:
                parts = [file.read(PART)]  # asked for all at once, zipfile unpacks all, whatever size its list says
                while len(parts[-1]) == PART:
                    parts.append(file.read(PART))
                    if len(parts) > LARGEST_FILE // PART + 1:
                        raise StageError(f"{self.label}: {shown(path)}: {TOO_LARGE}")
                return b"".join(parts)
        except DAMAGED as error:
            raise StageError(f"{self.label}: {shown(path)}: cannot be read: {reason(error)}") from None

    def subfolders(self, folder: str) -> list[str]:
        """Names of the folders that lie in one; of the source itself, whose path is empty, too."""
        return sorted(posixpath.basename(each) for each in self.folders if posixpath.dirname(each) == folder)

    def close(self) -> None:
        pass

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FolderTree(Tree):
    def __init__(self, folder: Path, only: Iterable[str] | None = None) -> None:
        self.folder = folder
        paths, folders = _walk(folder) if only is None else (only, ())
        super().__init__(str(folder), folder.resolve().name, paths, folders)

    def open(self, path: str) -> IO[bytes]:
        return regular(self.folder / path)


class ZipTree(Tree):
    def __init__(self, path: Path) -> None:
        most = _most_files(path)
        with contextlib.ExitStack() as opened:
            try:
                if _zip_entries(path) > most:
                    raise _crowd(str(path), most)
                self.archive, self.process = opened.enter_context(zipfile.ZipFile(path)), os.getpid()
            except DAMAGED as error:
                raise _damaged(path, "zip", error) from None
            members = [(_zip_name(info), info) for info in self.archive.infolist()]
            locked = next((name for name, info in members if info.flag_bits & 1), None)
            if locked:
                raise StageError(f"{path}: {shown(locked)} is encrypted; {UNPACK}")
            if sum(info.file_size for _, info in members) > _most_bytes(path):
                raise _bomb(path)
            _refuse_outside(path, ((name, None) for name, _ in members))
            files = [(_tidy(name), info) for name, info in members if not name.endswith("/")]
            self.members = _once(path, files)
            folders = [_tidy(name) for name, _ in members if name.endswith("/")]
            super().__init__(str(path), path.stem, self.members, folders, most)
            self.links = {name: self._target(name, info) for name, info in files if _zip_link(info)}
            _refuse_outside(path, self.links.items())
            _refuse_linked_folders(self, self.links)
            opened.pop_all()

    def read(self, path: str) -> bytes:
        info = self.members.get(path)
        content = None if info is None or path in self.links else self._at_once(info)
        return super().read(path) if content is None else content

    def _at_once(self, info: zipfile.ZipInfo) -> bytes | None:
        """A small file by one call to the operating system, checked as zipfile does; None where anything is unusual.

        What is wrong with it, `open` finds and says.
        """
        if max(info.file_size, info.compress_size) > PART or info.flag_bits & ~USUAL_FLAGS or self.archive.fp is None:
            return None
        most = LOCAL.size + 4 * len(info.orig_filename) + SPARE + info.compress_size
        try:
            found = os.pread(self.archive.fp.fileno(), most, info.header_offset)  # threads and forks alike
        except (OSError, OverflowError, ValueError):  # a place that no file has
            return None
        if len(found) < LOCAL.size:
            return None
        magic, flags, method, named, extra = LOCAL.unpack_from(found)
        start = LOCAL.size + named + extra
        end = start + info.compress_size
        name = found[LOCAL.size : LOCAL.size + named].decode("utf-8" if flags & 0x800 else "cp437", "replace")
        as_listed = (flags, method, name) == (info.flag_bits, info.compress_type, info.orig_filename)
        next_one = getattr(info, "_end_offset", None)  # newer Pythons know where the next file begins
        if (
            magic != b"PK\3\4"
            or not as_listed
            or end > len(found)
            or (next_one is not None and next_one < info.header_offset + end)
        ):
            return None
        content = _inflated(found[start:end], method, info.file_size)
        return content if content is not None and zlib.crc32(content) == info.CRC else None

    def open(self, path: str) -> IO[bytes]:
        if self.process != os.getpid():  # a fork shares its parent's place in the file
            self.archive.fp, self.process = Path(self.label).open("rb"), os.getpid()  # noqa: SIM115 (closed with it)
        return self.archive.open(_member(path, self.links, self.members))

    def close(self) -> None:
        self.archive.close()

    def _target(self, name: str, info: zipfile.ZipInfo) -> str:
        """Where a link leads: its content, of which no more is read than a path may have."""
        if info.file_size > LONGEST_NAME:
            raise StageError(
                f"{self.label}: member '{shown(name)}' is a link of {info.file_size:,} bytes; the archive is refused"
            )
        try:
            return self.archive.read(info).decode()
        except DAMAGED as error:
            raise _damaged(Path(self.label), "zip", error) from None


class TarTree(Tree):
    """A tar, read in place; a compressed one is decompressed once into an unnamed temporary file."""

    def __init__(self, path: Path) -> None:
        most = _most_files(path)
        with contextlib.ExitStack() as opened:
            self.file = opened.enter_context(_decompressed(path))
            try:
                members = _tar_members(self.file, str(path), most)
            except DAMAGED as error:
                raise _damaged(path, "tar", error) from None
            files = [(_tidy(member.name), member) for member in members if not member.isdir()]
            self.links = {name: _target(member) for name, member in files if member.issym() or member.islnk()}
            _refuse_outside(path, ((member.name, self.links.get(_tidy(member.name))) for member in members))
            odd = next((m.name for m in members if m.ischr() or m.isblk() or m.isfifo() or m.issparse()), None)
            if odd:
                raise StageError(f"{path}: member '{shown(odd)}' is no ordinary file; the archive is refused")
            self.members = _once(path, files)
            folders = [_tidy(member.name) for member in members if member.isdir()]
            super().__init__(str(path), path.name.split(".")[0], self.members, folders, most)
            _refuse_linked_folders(self, self.links)
            opened.pop_all()

    def open(self, path: str) -> IO[bytes]:
        member = _member(path, self.links, self.members)
        if member.size > LARGEST_FILE:
            raise tarfile.ReadError(TOO_LARGE)
        return io.BytesIO(os.pread(self.file.fileno(), member.size, member.offset_data))  # threads and forks alike

    def close(self) -> None:
        self.file.close()


def open_tree(path: Path) -> Tree:
    """The files of a folder, of an archive (known by its content, not its name), or of one table (`*.csv`)."""
    if path.is_dir():
        return FolderTree(path)
    try:
        regular(path).close()
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {reason(error)}; give dataset.source a folder or archive") from None
    if path.suffix.lower() == ".csv":
        return FolderTree(path.parent, only=[path.name])
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return ZipTree(path)
    if _is_tar(path) or ".tar" in path.suffixes or path.suffix == ".tgz":
        return TarTree(path)
    raise StageError(f"{path}: neither a folder nor a zip or tar archive; give dataset.source one of these")


def regular(path: Path) -> IO[bytes]:
    """A file open for reading; OSError for a pipe or a device, which may have no end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a folder" if stat.S_ISDIR(mode) else "a pipe or a device, not a file")
    return path.open("rb")


def reason(error: Exception) -> str:
    """What an error says, without the number and the file's name of one of the operating system's."""
    return (error.strerror if isinstance(error, OSError) else None) or shown(str(error))


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of all files and of all folders below `folder`; links are followed, circles are not.

    Raises StageError for a folder that cannot be read: what is in it would be missing unseen.
    """

    def unreadable(error: OSError) -> None:
        place = shown(os.path.relpath(error.filename, folder))
        raise StageError(
            f"{folder}: the folder {place} cannot be read: {reason(error)}; mend its permissions, or move it away"
        )

    files, folders = [], []
    above: dict[str, set[str]] = {}  # folder -> where it and those above it really are
    for root, inner, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real, way = os.path.realpath(root), above.get(os.path.dirname(root), set())
        place = "" if root == str(folder) else Path(root).relative_to(folder).as_posix()
        if real in way:
            inner.clear()
            continue
        above[root] = way | {real}
        _refuse_odd(str(folder), [f"{place}/"])
        folders += [place, *(posixpath.join(place, name) for name in inner if _hidden(name))]
        files += [posixpath.join(place, name) for name in names]
        inner[:] = [name for name in inner if not _hidden(name)]
    return files, folders


def _hidden(path: str) -> bool:
    """What operating systems leave beside the data, and what begins with a dot."""
    return any(part.startswith(".") or part.lower() in LITTER for part in (path.split("/") if "/" in path else [path]))


def _first_hidden(folder: str) -> str:
    """The topmost part of a folder's path that is left out, if for the dot before its name; empty otherwise."""
    parts = folder.split("/")
    first = next((place for place, part in enumerate(parts) if _hidden(part)), None)
    return "" if first is None or parts[first].lower() in LITTER else "/".join(parts[: first + 1])


def _above(paths: Iterable[str]) -> set[str]:
    """All folders that lie above files, the source itself left out."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _refuse_odd(label: str, paths: Iterable[str]) -> None:
    """Raise for a name that cannot be written down as text, or that no operating system would open."""
    for path in paths:
        if len(path) > LONGEST_NAME or path.count("/") > DEEPEST_NAME:
            raise StageError(
                f"{label}: {shown(path)}: a name of {len(path):,} characters in {path.count('/')} folders; at most"
                f" {LONGEST_NAME:,} in {DEEPEST_NAME} are read"
            )
        if not path.isascii() and any("\ud800" <= each <= "\udfff" for each in path):
            raise StageError(f"{label}: {os.fsencode(path)[:200]!r}: the name is not UTF-8; rename the file")


def _refuse_outside(archive: Path, members: Iterable[tuple[str, str | None]]) -> None:
    """Raise if a member's name, or where a link leads, is outside the archive's own folder."""
    for name, target in members:
        if _absolute(name) or (".." in name and ".." in name.replace("\\", "/").split("/")):
            raise StageError(
                f"{archive}: member '{shown(name)}' lies outside the archive's folder; the archive is refused"
            )
        if target is not None and (_absolute(target) or _beside(name, target).split("/")[0] == ".."):
            raise StageError(
                f"{archive}: member '{shown(name)}' links to '{shown(target)}', outside; the archive is refused"
            )


def _refuse_linked_folders(tree: Tree, links: dict[str, str]) -> None:
    """Raise for a link that leads to a folder: what lies there would be missing unseen."""
    for name in links:
        if _follow(name, links) in tree.folders | {"."}:
            raise StageError(f"{tree.label}: {shown(name)} links to a folder of the archive; {UNPACK}")


def _absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or (name[1:2] == ":" and bool(re.match("[A-Za-z]", name))) or "\0" in name


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


def _member(path: str, links: dict[str, str], members: dict[str, Member]) -> Member:
    """The file that a path stands for, links followed; OSError where there is none."""
    end = _follow(path, links)
    if end in links or end not in members:
        raise FileNotFoundError(errno.ENOENT, f"links to {shown(end)}, which the archive lacks")
    return members[end]


def _once(archive: Path, files: list[tuple[str, Member]]) -> dict[str, Member]:
    """Files by name; raises StageError if two have one, of which every program takes another."""
    members = dict(files)
    if len(members) < len(files):
        twice = next(name for name, n in Counter(name for name, _ in files).items() if n > 1)
        raise StageError(f"{archive}: holds two files called '{shown(twice)}'; {UNPACK}")
    return members


def _zip_entries(path: Path) -> int:
    """How many entries a zip's list has: counted, for what its end says need not be so, before they take up memory."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if not end:
            raise zipfile.BadZipFile("it has no end")
        size, start = end[5], end[9]  # of the list, and where the record of its end starts
        file.seek(max(0, start - size - (76 if end[0] == b"PK\6\6" else 0)))
        return file.read(size).count(b"PK\1\2")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name with `/` between its parts, as zips made on Windows do not always have it.

    One that does not say that it is UTF-8, but is, is taken for it: older programs on Linux and macOS write it so.
    """
    name = info.filename
    if not name.isascii() and not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _inflated(content: bytes, method: int, size: int) -> bytes | None:
    """A zip's file unpacked, if it has exactly this size; None otherwise, or where it is compressed another way."""
    if method == zipfile.ZIP_DEFLATED:
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = unpacking.decompress(content, size + 1)
        except zlib.error:
            return None
        if not unpacking.eof:
            return None
    elif method != zipfile.ZIP_STORED:
        return None
    return content if len(content) == size else None


def _zip_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _target(link: tarfile.TarInfo) -> str:
    """Where a link leads, relative to the folder it lies in (a hard link is stored relative to the archive's root)."""
    if link.issym() or _absolute(link.linkname):
        return link.linkname
    return posixpath.relpath(link.linkname, posixpath.dirname(_tidy(link.name)) or ".")


def _tidy(name: str) -> str:
    """A path without `.` and empty parts."""
    if "//" not in name and "/." not in name and name[-1:] != "/" and name[:1] != ".":
        return name  # as nearly all are
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class _Member(tarfile.TarInfo):
    """What a tar says of a member, where that is neither longer than it need be nor leads backwards, without end."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = self.type in (*GNU_NAMES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if extended and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError("a member of negative size")
        return super()._block(count)  # type: ignore[misc]


def _tar_members(file: IO[bytes], label: str, most: int) -> list[tarfile.TarInfo]:
    """The members; raises ReadError for a file that ends too early, which tarfile takes for whole."""
    members = []
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
        for member in archive:
            members.append(member)
            if len(members) > most:
                raise _crowd(label, most)
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it has no end")
    return members


def _most_files(archive: Path) -> int:
    return min(MOST_FILES, max(MANY_FILES, archive.stat().st_size // SMALLEST_FILE))


def _crowd(label: str, most: int) -> StageError:
    return StageError(f"{label}: more than {most:,} files, which no data set of this size has; it is refused")


def _damaged(archive: Path, kind: str, error: Exception) -> StageError:
    return StageError(f"{archive}: damaged or incomplete {kind} archive ({reason(error)}); fetch it again")


def _most_bytes(archive: Path) -> int:
    """How much an archive may unpack to."""
    return max(LARGEST_FILE, BOMB * archive.stat().st_size)


def _bomb(archive: Path) -> StageError:
    size = archive.stat().st_size
    return StageError(f"{archive}: unpacks to more than {BOMB} times its {size:,} bytes; the archive is refused")


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, tarinfo=_Member).close()
    except DAMAGED:
        return False
    return True


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
        raise StageError(f"{path}: damaged or incomplete archive ({reason(error)}); fetch it again") from None
    plain.seek(0)
    return plain
