"""What every stage shares: one clear line for a fault, and outputs that appear whole or not at all."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


class StageError(Exception):
    """A fault that the user can mend; its text says what was found and what to do."""


def run(main: Callable[[], None]) -> None:
    """Call a stage's `main`; a StageError becomes its text on stderr and exit status 1."""
    try:
        main()
    except StageError as error:
        print(f"versus: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("versus: interrupted; nothing was left half-written", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds, remove it if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        _remove(path)
        partial.rename(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def commit() -> str:
    """The git commit of this package's code, with `-dirty` behind it where the code differs; empty outside git."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + "-dirty" * bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return ""


def study() -> str:
    """The study's name: its folder's below `studies/`; the root is the default study, digits."""
    here = Path.cwd()
    return "digits" if here.parent.name != "studies" or here == checkout() else here.name


def checkout() -> Path | None:
    """The root of the git checkout that the stage runs in; without git, the nearest folder with a `.dvc`."""
    return _nearest(Path.cwd(), ".git") or _nearest(Path.cwd(), ".dvc")


def original(copy: Path) -> Path:
    """The user's own checkout, also where `copy` is one that DVC made for an experiment, below `.dvc/tmp/exps`.

    VERSUS_HOME names it where `copy` is a clone of a job of `versus launch`.
    """
    if os.environ.get("VERSUS_HOME"):
        return Path(os.environ["VERSUS_HOME"])
    parts = copy.parts
    for index in range(len(parts)):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            home = Path(*parts[:index])  # the root, or a study's folder
            return _nearest(home, ".git") or home
    return copy


def _nearest(folder: Path, marker: str) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / marker).exists()), None)
