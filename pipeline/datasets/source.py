"""From `dataset.source` to the files of a data set: a folder, an archive, a URL, or the official source."""

import os
from pathlib import Path

from pipeline.datasets.collection import About
from pipeline.datasets.download import cache_folder, official_file, url_file
from pipeline.datasets.tree import FolderTree, Tree, open_tree
from pipeline.stage import StageError, find


def open_source(name: str, about: About, source: str) -> Tree:
    """The files of data set `name`; raises StageError that says what to do if they are not to be had."""
    if source.startswith(("http://", "https://")):
        path, sha256 = url_file(source, cache_folder() / "urls")
        print(f"fetch: {source}: SHA-256 {sha256}, kept as {path}")
        return open_tree(path)
    if source:
        return open_tree(local(source))
    archive = provided(name)
    if archive:
        return open_tree(archive)
    if not about.official:
        raise StageError(
            f"{name}: {about.title or 'this data set'} has no open download: {about.request}, then set dataset.source"
            f" in params.yaml to the folder or archive ({about.layouts})"
            + (f"; homepage: {about.homepage}" if about.homepage else "")
        )
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
    where = "" if Path(source).expanduser().is_absolute() else f" (below {Path.cwd()})"
    raise StageError(f"dataset.source: {source}: not found{where}; give a folder, an archive or a URL that exists")
