"""The checkout as it is, uncommitted changes included, and clones of it in which stages run."""

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.git import git as git_git

git = functools.partial(git_git, "launch")
LARGEST = 100_000_000  # bytes of untracked files that travel with a checkout


def untracked(folder: Path, *paths: str) -> list[str]:
    """The files that git neither knows nor ignores, in a folder or of some paths as git takes them, from the folder."""
    found = git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", *paths)
    return [name for name in found.split("\0") if name]


def snapshot(home: Path, ref: str, index: Path) -> str:
    """A commit of all files that git does not ignore, as they are now; `ref` keeps it, `index` is a scratch file."""
    sizes = {home / name: (home / name).lstat().st_size for name in untracked(home)}
    if sum(sizes.values()) > LARGEST:
        largest = max(sizes, key=lambda path: sizes[path])
        raise StageError(
            f"launch: {sum(sizes.values()) / 1e6:.0f} MB of files that git does not know would travel with every job"
            f" (the largest: {largest.relative_to(home)}); name them in .gitignore, or keep them elsewhere"
        )
    shutil.copyfile(git(home, "rev-parse", "--path-format=absolute", "--git-path", "index").strip(), index)
    git(home, "add", "--all", "--", ":/", GIT_INDEX_FILE=str(index))
    tree = git(home, "write-tree", GIT_INDEX_FILE=str(index)).strip()
    index.unlink()
    who = {f"GIT_{role}_{key}": "versus" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    commit = git(home, "commit-tree", tree, "-p", "HEAD", "-m", "versus launch", **who).strip()
    git(home, "update-ref", ref, commit)
    return commit


def forget(home: Path, ref: str) -> None:
    git(home, "update-ref", "-d", ref)


def clone(home: Path, head: str, commit: str, target: Path) -> None:
    """A clone at `head` whose files are those of `commit`: changed exactly where the user's checkout is."""
    if target.exists():
        shutil.rmtree(target)
    git(target.parent, "clone", "--quiet", "--shared", "--no-checkout", str(home), str(target))
    git(target, "fetch", "--quiet", str(home), commit)  # of a shallow clone, git shares no objects
    git(target, "checkout", "--quiet", "--detach", head)
    git(target, "restore", f"--source={commit}", "--worktree", "--", ":/")


def configure(study: Path, original: Path, settings: Mapping[str, Mapping[str, Any]], scratch: Path) -> None:
    """DVC's own settings of a clone's study: the original's local ones, then `settings`; its databases in `scratch`."""
    from configobj import ConfigObj

    config = ConfigObj(str(original / ".dvc/config.local"), file_error=False, encoding="utf-8")
    for section, values in {**settings, "core": {"site_cache_dir": str(scratch)}}.items():
        config.setdefault(section, {}).update({key: str(value) for key, value in values.items()})
    with written_whole(study / ".dvc/config.local") as partial, partial.open("wb") as file:
        config.write(file)
