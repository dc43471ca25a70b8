"""C beside Python: a file compiled where there is a compiler, for what has a twin that does the same without it."""

import ctypes
import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from pipeline.base.files import written_whole
from pipeline.base.places import state_folder

SECONDS = 60  # for a compiler that hangs; a file takes it less than one


def library(source: Path) -> ctypes.CDLL | None:
    """A C file as a library, compiled once for a checkout, a machine's kind and the file's content.

    None where there is no C compiler, or where it or the operating system refuses.
    """
    try:
        content = source.read_bytes() + "-".join((platform.system(), platform.machine())).encode()
        path = state_folder() / "native" / f"{source.stem}-{hashlib.sha256(content).hexdigest()[:16]}.so"
        if not path.exists():
            _compile(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(source: Path, path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise OSError("no C compiler")
    with written_whole(path) as partial:
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(partial), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
