"""C and C++ beside Python: a file compiled where there is a compiler, for what has a twin that does without."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.places import state_folder

COMPILERS = {".c": "cc", ".cpp": "c++"}
SECONDS = 60  # for a compiler that hangs; a file takes it less than one, or three where it is C++


def library(source: Path) -> ctypes.CDLL | None:
    """A C file as a library; None where there is no C compiler, or where it or the operating system refuses."""
    try:
        return compiled(source)
    except (OSError, subprocess.SubprocessError):
        return None


def compiled(source: Path, flags: Sequence[str] = ("-O2",), processor: str = "") -> ctypes.CDLL:
    """A file as a library, compiled once for a checkout, a machine's kind, the flags and the file's content.

    `processor` is what the machine's kind has to say where the flags have its own instructions used. Raises OSError
    where there is no compiler, or SubprocessError or OSError where it or the operating system refuses.
    """
    kind = "-".join((platform.system(), platform.machine(), processor, *flags))
    path = state_folder() / "native" / f"{source.stem}-{_digest(source.read_bytes() + kind.encode())}.so"
    if not path.exists():
        try:
            _compile(source, flags, path)
        except (OSError, subprocess.SubprocessError):
            if not path.exists():  # another process, perhaps of another machine, may have made it meanwhile
                raise
    return ctypes.CDLL(str(path))


def _compile(source: Path, flags: Sequence[str], path: Path) -> None:
    compiler = shutil.which(name := COMPILERS[source.suffix])
    if compiler is None:
        raise FileNotFoundError(f"no {name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as own:  # machines that share a checkout share ids
        partial = Path(own) / path.name
        command = [compiler, *flags, "-shared", "-fPIC", "-o", str(partial), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
