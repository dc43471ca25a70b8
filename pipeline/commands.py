"""git and DVC as commands, for what works in clones of a checkout."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pipeline.stage import StageError


def git(who: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What git prints; a StageError, which `who` begins, with the end of what it complains of."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise StageError(f"{who}: needs git, which is not installed or not on PATH") from None
    if done.returncode:
        raise StageError(f"{who}: git {arguments[0]} in {folder}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def dvc(folder: Path, *arguments: str, **environment: str) -> bool:
    """Run this environment's DVC, which prints for itself; whether it went well.

    Where this process is asked to end, the stages that DVC runs are, and DVC ends with them: killed itself, it would
    leave them running and perhaps half a dvc.lock.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(["dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path, **environment})
    try:
        return process.wait() == 0
    except BaseException:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.terminate()
            time.sleep(0.1)
        raise
