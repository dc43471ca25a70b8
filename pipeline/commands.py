"""git and DVC as commands, for what works in clones of a checkout."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.stage import StageError


def git(who: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What git prints; a StageError, which `who` begins, with the end of what it complains of."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"{who}: git {arguments[0]} in {folder}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def dvc(folder: Path, *arguments: str, **environment: str) -> bool:
    """Run this environment's DVC, which prints for itself; whether it went well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path, **environment}, check=False)
    return done.returncode == 0
