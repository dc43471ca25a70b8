"""git and DVC as commands, and which commit the code is of."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.base.errors import StageError


def git(who: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What git prints; a StageError, which `who` begins, with the end of what it complains of."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            errors="surrogateescape",  # names of files that are not UTF-8
            check=False,
        )
    except FileNotFoundError:
        raise StageError(f"{who}: needs git, which is not installed or not on PATH") from None
    if done.returncode:
        raise StageError(f"{who}: git {arguments[0]} in {folder}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def dvc(folder: Path, *arguments: str, **environment: str) -> bool:
    """Run this environment's DVC, which prints what a user needs of what it does (see terse.py); whether it went well.

    Where this process is asked to end, the stages that DVC runs are, and DVC ends with them: killed itself, it would
    leave them running and perhaps half a dvc.lock.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("terse.py")), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
    )
    try:
        return process.wait() == 0
    except BaseException:
        import psutil

        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.terminate()
            time.sleep(0.1)
        raise


def commit() -> str:
    """The git commit of this package's code, with `-dirty` behind it where the code differs; empty outside git."""
    try:
        return _git("rev-parse", "HEAD").strip() + "-dirty" * bool(_git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return ""


def uncommitted() -> str:
    """How this package's code differs from its commit, new files included, as a patch; empty if it does not."""
    try:
        new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", ".").split("\0")[:-1]
        patches = [_git("diff", "HEAD", "--", ".")]
        patches += [_git("diff", "--no-index", "--", os.devnull, name, check=False) for name in new]
        return "".join(patches)
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str, check: bool = True) -> str:
    options = {"capture_output": True, "text": True, "errors": "replace", "check": check}
    return subprocess.run(["git", *arguments], cwd=Path(__file__).resolve().parents[1], **options).stdout  # type: ignore[call-overload]
