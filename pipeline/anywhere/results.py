"""The results of a pack's trainings, as zip files that travel: scores first, weights last, nothing that is executed.

A result is a manifest and files. The manifest, in every part, names the pack, the machine and each file by its size and
SHA-256; an HMAC with the pack's key says that whoever wrote it had the pack. Files are cut into pieces of a part's size
at most, so that a part that stayed behind costs only what was in it. Only the standard library is needed.
"""

import dataclasses
import hashlib
import hmac
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.base.files import sha256, written_whole

FORMAT = 1
MANIFEST, SEAL = "manifest.json", "seal"
OVERHEAD = 4096  # bytes of a part that are no piece's: its directory
LISTED = 400  # bytes of the list for a file
PIECE = 1 << 26  # bytes of a file that are held in memory at most
MOST_BYTES = 1 << 36  # of what the pieces of one result unpack to
STATE = "state"  # of a file that only a second call goes on from
LEFT = (  # what a training leaves, by its name, from its study's folder
    r"models/{name}/((config|run)\.json|val_logits\.npy|weights\.safetensors|epochs/\d+\.safetensors)",
    r"data/logits/{name}(\.first)?\.npy|reports/histories/{name}\.csv|told/{name}\.jsonl",
    r"\.versus/resume/[0-9a-f]{{32}}/(state\.pt|about\.json|told\.jsonl|epochs/\d+\.safetensors)",
)


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a result."""

    training: str  # study/name
    kind: str  # what it is: history, logits, diary, weights, ...
    path: str  # from the study's folder
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Raises ValueError, TypeError or AttributeError for what no training leaves."""
        left = "|".join(LEFT).format(name=re.escape(self.training.rpartition("/")[2]))
        if not (
            re.fullmatch(left, self.path, re.ASCII) and re.fullmatch("[0-9a-f]{64}", self.sha256) and self.size >= 0
        ):
            raise ValueError("no file of a training")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a result says of itself."""

    pack: str  # the pack's name: a SHA-256
    machine: Mapping[str, Any]
    trainings: Sequence[Mapping[str, Any]]  # name, state: done, begun or failed, reason, epochs: as Contents.epochs
    files: Sequence[File]  # in the order in which they travel

    def text(self) -> bytes:
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def of(cls, text: bytes) -> "Manifest":
        """Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        files = [File(**file) for file in content.pop("files")]
        made = cls(files=files, **content)
        told = [each[key] for each in made.trainings for key in ("name", "state", "reason")]
        if not isinstance(made.machine, dict) or not all(isinstance(each, str) for each in (made.pack, *told)):
            raise ValueError("no list of trainings")
        return made


def seal(text: bytes, key: bytes) -> str:
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def file_of(study: Path, training: str, kind: str, path: str) -> File:
    """A file of a study as a result names it."""
    return File(training, kind, path, (study / path).stat().st_size, sha256(study / path))


def part_name(out: Path, number: int) -> Path:
    """results.zip, results-2.zip, ..."""
    return out if number == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")


def standing(out: Path, key_of: Mapping[str, bytes]) -> dict[Path, Manifest]:
    """The parts of earlier results that a result at `out` replaces, with their lists; `key_of` as in read.

    Raises StageError for anything else under a part's name.
    """
    name = re.compile(rf"{re.escape(out.stem)}(-([2-9]|[1-9][0-9]+))?{re.escape(out.suffix)}")
    found = {}
    for path in sorted(path for path in out.parent.glob("*") if name.fullmatch(path.name)):
        try:
            found[path] = Manifest.of(_read_part(path, key_of, tested=False)[0])
        except StageError:
            raise StageError(
                f"--out: {path} is no result of this pack, or damaged, and would be replaced; move it away, or name"
                " another --out (what was trained is kept)"
            ) from None
    return found


def least(files: int) -> int:
    """Bytes of a part that holds the list of so many files and something of them."""
    return 4 * OVERHEAD + LISTED * files


def write(manifest: Manifest, studies: Mapping[str, Path], out: Path, part: int, key: bytes) -> list[Path]:
    """Write a result in parts of `part` bytes at most; returns their paths, `out` first.

    `studies` are the folders by the names that trainings begin with. Parts of the pack's earlier results are replaced
    or removed; raises StageError for anything else under a part's name.
    """
    text, replaced = manifest.text(), standing(out, {manifest.pack: key})
    room = max(part - OVERHEAD - len(text), OVERHEAD)
    parts, written = list(_divided(manifest.files, room)), []
    for number, pieces in enumerate(parts, start=1):
        path = part_name(out, number)
        with written_whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, text)
            archive.writestr(SEAL, seal(text, key))
            for file, start, size in pieces:
                with (studies[file.training.rsplit("/", 1)[0]] / file.path).open("rb") as content:
                    content.seek(start)
                    archive.writestr(f"{file.sha256}/{start}", content.read(size))
        written.append(path)
    for path in replaced.keys() - written:
        path.unlink(missing_ok=True)
    return written


Piece = tuple[File, int, int]  # of a file: from which byte on, how many


def _divided(files: Iterable[File], room: int) -> Iterator[list[Piece]]:
    """The pieces of each part, `room` bytes at most with 256 for each piece's own entry; one part at least."""
    pieces: list[Piece] = []
    left = room
    for file in {file.sha256: file for file in files}.values():  # the same bytes travel once
        start = 0
        while start < file.size or (start == 0 and file.size == 0):
            if left <= 512:
                yield pieces
                pieces, left = [], room
            size = min(file.size - start, left - 256, PIECE)
            pieces.append((file, start, size))
            left -= size + 256
            start += max(size, 1)
    yield pieces


@dataclasses.dataclass(frozen=True)
class Result:
    """A result that was read, of as many of its parts as there are."""

    manifest: Manifest
    pieces: Mapping[str, Mapping[int, tuple[Path, int]]]  # SHA-256 of a file -> first byte -> part, size

    def has(self, file: File) -> bool:
        """Whether all of a file's pieces are here."""
        at = 0
        for start, (_, size) in sorted(self.pieces.get(file.sha256, {}).items()):
            if start != at:
                return False
            at += size
        return at == file.size and (file.size > 0 or file.sha256 in self.pieces)

    def copy(self, file: File, target: Path) -> None:
        """Write a file to `target`; raises StageError unless it is what the manifest says."""
        found = hashlib.sha256()
        with written_whole(target) as partial, partial.open("wb") as content:
            for start, (part, _) in sorted(self.pieces[file.sha256].items()):
                with zipfile.ZipFile(part) as archive:
                    piece = archive.read(f"{file.sha256}/{start}")
                found.update(piece)
                content.write(piece)
            if found.hexdigest() != file.sha256:
                raise StageError(f"{file.training}: {file.path} is damaged; fetch the result anew")


def read(paths: Sequence[Path], key_of: Mapping[str, bytes] | None) -> list[Result]:
    """Results from their parts, which may be of several; `key_of` has the keys of packs by name, None trusts any.

    Raises StageError for what is no result, damaged, or of a pack that is not known here.
    """
    manifests: dict[bytes, Manifest] = {}
    pieces: dict[bytes, dict[str, dict[int, tuple[Path, int]]]] = {}
    for path in paths:
        text, found = _read_part(path, key_of, tested=True)
        path = path.absolute()  # pieces are read in other folders
        if text not in manifests:
            manifests[text] = Manifest.of(text)
        wanted = {file.sha256: file.size for file in manifests[text].files}
        for name, size in found.items():
            digest, _, start = name.partition("/")
            if digest not in wanted or not start.isdecimal() or int(start) + size > wanted[digest]:
                raise StageError(f"{path}: has a piece that its list does not name ({name[:80]}); fetch it anew")
            pieces.setdefault(text, {}).setdefault(digest, {})[int(start)] = (path, size)
    return [Result(manifest, pieces.get(text, {})) for text, manifest in manifests.items()]


def _read_part(path: Path, key_of: Mapping[str, bytes] | None, tested: bool) -> tuple[bytes, dict[str, int]]:
    """The manifest of a part and the sizes of its pieces; `tested`: these are read, too, to find what is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _sizes(archive, path.stat().st_size)
            text, sealed = archive.read(MANIFEST), archive.read(SEAL).decode()
            manifest = Manifest.of(text)
            if sum(file.size for file in manifest.files) > MOST_BYTES:
                raise ValueError
            if tested and (bad := archive.testzip()):
                raise StageError(f"{path}: damaged at {bad[:80]}; fetch it anew")
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError):
        raise StageError(f"{path}: no result of a pack, or damaged or cut short; fetch it anew") from None
    if key_of is not None:
        key = key_of.get(manifest.pack)
        if key is None:
            raise StageError(f"{path}: of a pack that was not made in this checkout; unpack where it was packed")
        if not hmac.compare_digest(seal(text, key), sealed):
            raise StageError(f"{path}: its list is not what the pack wrote: changed or forged on its way; refused")
    return text, {name: size for name, size in sizes.items() if name not in (MANIFEST, SEAL)}


def _sizes(archive: zipfile.ZipFile, whole: int) -> dict[str, int]:
    """The sizes of a part's entries; raises ValueError for what would unpack to more than the part's bytes.

    Entries are stored as they are, so that all together are no larger than the part.
    """
    entries = archive.infolist()
    sizes = {entry.filename: entry.file_size for entry in entries}
    odd = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > PIECE]
    if odd or len(sizes) < len(entries) or sum(sizes.values()) > whole:
        raise ValueError("no part of a result")
    return sizes
