"""The folder of a new study: settings, the root's pipeline, DVC's configuration; nothing of another's."""

import filecmp
import os
import re
import shutil
from pathlib import Path

from pipeline.base import git
from pipeline.base.errors import StageError, shown
from pipeline.base.files import written_whole
from pipeline.base.places import DEFAULT, PIPELINE, checkout
from pipeline.datasets.source import is_url

LINK = "pipeline"  # to the root's
CONFIG = """[core]
    analytics = false
    autostage = true
[cache]
    type = "reflink,hardlink,symlink,copy"
    dir = ../../../.dvc/cache
"""
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"


def place(name: str) -> Path:
    """Where study `name` is to lie; raises StageError where there is one, or no checkout to lie in."""
    root = checkout()
    if root is None or not all((root / each).exists() for each in (*PIPELINE, LINK, ".dvc/config")):
        raise StageError("no checkout of Versus here; run `versus new` where its dvc.yaml and studies/ lie")
    if not re.fullmatch(NAME, name):
        raise StageError(f"{shown(name)}: no name of a study; use letters, digits, `_`, `-` and dots, 100 at most")
    if name == DEFAULT:
        raise StageError(f"{name} is the default study's name, at the root; choose another")
    if os.path.lexists(folder := root / "studies" / name):
        raise StageError(f"studies/{name} is there already; choose another name, or remove it")
    return folder


def source_seen_from(folder: Path, source: str) -> str:
    """How params.yaml in `folder` names a source that was named from the current folder.

    Within the checkout by a relative path, of one's own folder with `~`: it is then right in other clones, too.
    """
    if is_url(source):
        return source
    path, home = Path(os.path.expanduser(source)).absolute(), Path.home()
    root = folder.parents[1]
    if path.is_relative_to(root):
        return Path(os.path.relpath(path, folder)).as_posix()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else path.as_posix()


def write(folder: Path, params: str) -> None:
    """Make the study's folder, whole or not at all."""
    with written_whole(folder) as partial:
        (partial / ".dvc").mkdir(parents=True)
        for name in PIPELINE:
            shutil.copyfile(folder.parents[1] / name, partial / name)
        (partial / LINK).symlink_to(Path("../..") / LINK)
        (partial / ".dvc/config").write_text(CONFIG, encoding="utf-8")
        (partial / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
        (partial / "params.yaml").write_text(params, encoding="utf-8")


def follow_root() -> None:
    """Give every study of this checkout the root's pipeline as it is now, and say whose was another."""
    if (root := checkout()) is None:
        return
    for study in root.glob("studies/*/params.yaml"):
        for name in PIPELINE:
            copy = study.parent / name
            if copy.is_symlink() or not copy.exists() or not filecmp.cmp(root / name, copy, shallow=False):
                copy.unlink(missing_ok=True)
                shutil.copyfile(root / name, copy)
                print(f"{copy.relative_to(root)} is the root's now")


def write_settings(folder: Path, params: str) -> None:
    """Put other settings in place of those there."""
    with written_whole(folder / "params.yaml") as partial:
        partial.write_text(params, encoding="utf-8")


def prepare(folder: Path) -> None:
    """Have DVC check, fetch and split; raises StageError where a stage refuses, which has said why.

    Nothing of the study is staged afterwards: DVC stages its own files, and git would show half a study as added.
    """
    try:
        went_well = git.dvc(folder, "repro", "--quiet", "split")
    finally:
        git.git("new", folder, "reset", "--quiet", "--", ".")
    if not went_well:
        raise StageError(
            f"studies/{folder.name} is written, but its images are refused for the reason above: mend them, then"
            f" `dvc repro split` in studies/{folder.name}"
        )
