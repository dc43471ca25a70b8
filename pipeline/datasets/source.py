"""From `dataset.source` to the files of a data set: a folder, an archive, a URL, or the official source."""

import os
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.places import find
from pipeline.datasets.collection import About
from pipeline.datasets.download import cache_folder, official_file, url_file, url_path
from pipeline.datasets.tree import FolderTree, Tree, open_tree


def open_source(name: str, about: About, source: str) -> Tree:
    """The files of data set `name`; raises StageError that says what to do if they are not to be had."""
    if source or provided(name) or not about.official:
        return open_tree(given(name, about, source))
    folder = cache_folder() / name
    try:
        paths = [official_file(download, folder) for download in about.official]
    except StageError as error:
        raise StageError(
            f"{name}: {error}. Run fetch again, or get the files by other means and set dataset.source to their folder"
        ) from None
    if len(paths) == 1:
        return open_tree(paths[0])
    return FolderTree(folder, only=[path.name for path in paths])


def given(name: str, about: About, source: str) -> Path:
    """The folder or file of this machine that `source` names, a URL's downloaded; without one, the provided archive.

    Raises StageError if there is none.
    """
    if is_url(source):
        path, sha256 = url_file(source, urls())
        print(f"{source}: SHA-256 {sha256}, kept as {path}")
        return path
    if source:
        return local(source)
    archive = provided(name)
    if archive is None:
        raise StageError(
            f"{name}: {about.title or 'this data set'} has no open download: {about.request}, then set dataset.source"
            f" in params.yaml to the folder or archive ({about.layouts})"
            + (f"; homepage: {about.homepage}" if about.homepage else "")
        )
    return archive


def on_hand(name: str, source: str) -> Path | None:
    """What `given` would give, if that is on this machine."""
    if is_url(source):
        path = url_path(source, urls())
        return path if path.is_file() else None
    return find(source) if source else provided(name)


def downloaded(name: str, about: About) -> bool:
    """Whether there are official files, all of them on this machine."""
    return bool(about.official) and all((cache_folder() / name / file.filename).is_file() for file in about.official)


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def urls() -> Path:
    """Where files behind URLs are kept."""
    return cache_folder() / "urls"


def provided(name: str) -> Path | None:
    """The archive of data set `name` in the folder that VERSUS_DATASETS names, if there is one."""
    folder = os.environ.get("VERSUS_DATASETS")
    if not folder:
        return None
    if not Path(folder).is_absolute():
        raise StageError(f"VERSUS_DATASETS: {folder!r} is not absolute, and stages run in different folders")
    path = Path(folder) / f"{name}.zip"
    return path if path.is_file() else None


def local(source: str) -> Path:
    """A path of this machine, as `stage.find` looks for it."""
    path = find(source)
    if path is not None:
        return path
    where = "" if os.path.isabs(os.path.expanduser(source)) else f" (below {Path.cwd()})"
    raise StageError(f"dataset.source: {source}: not found{where}; give a folder, an archive or a URL that exists")
