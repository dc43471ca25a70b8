"""Downloads that are whole and checked, or not there at all."""

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.places import checkout, original
from pipeline.datasets.collection import Download


def cache_folder() -> Path:
    """Where downloads are kept: `.versus/downloads` in the original checkout; without one, the user's cache."""
    copy = checkout()
    if copy:
        return original(copy) / ".versus" / "downloads"
    import pooch

    return Path(pooch.os_cache("versus"))


def official_file(download: Download, folder: Path) -> Path:
    """The file, from `folder` if it is there and sound, else from the first of its URLs that answers.

    Raises StageError if no URL gives the whole file, or if its checksum is not the published one.
    """
    path = folder / download.filename
    if path.is_file() and not _damage(path, download):
        return path
    faults = []
    for url in download.urls:
        try:
            with written_whole(path) as partial:
                _transfer(url, partial)
                if damage := _damage(partial, download):
                    raise StageError(damage)
            return path
        except StageError as error:
            faults.append(f"{url}: {error}")
    raise StageError("; ".join(faults))


def url_file(url: str, folder: Path) -> tuple[Path, str]:
    """The file behind a URL and its SHA-256; kept in `folder`, so that a URL is downloaded once.

    Raises StageError if the whole file does not arrive.
    """
    path = url_path(url, folder)
    if not path.is_file():
        try:
            with written_whole(path) as partial:
                _transfer(url, partial)
        except StageError as error:
            raise StageError(f"{url}: {error}; check dataset.source and the network, then run fetch again") from None
    return path, sha256_of(path)


def url_path(url: str, folder: Path) -> Path:
    """Where the file behind a URL is kept."""
    name = Path(unquote(urlsplit(url).path)).name or "download"
    return folder / hashlib.sha256(url.encode()).hexdigest()[:16] / name


def sha256_of(path: Path) -> str:
    import pooch

    return pooch.file_hash(str(path), alg="sha256")


def _damage(path: Path, download: Download) -> str:
    """How a file's checksum differs from the published one; empty if it does not."""
    import pooch

    name, kind, wanted = ("SHA-256", "sha256", download.sha256) if download.sha256 else ("MD5", "md5", download.md5)
    found = pooch.file_hash(str(path), alg=kind)
    return "" if found == wanted else f"{name} is {found}, not the published {wanted}"


def _transfer(url: str, path: Path) -> None:
    """Write the content of `url` to `path`, with a progress bar on a terminal; raises StageError if it breaks off."""
    import pooch
    import requests

    try:
        pooch.HTTPDownloader(progressbar=os.isatty(2), timeout=30)(url, str(path), None)
    except (OSError, ValueError, requests.RequestException) as error:
        reason = "no connection" if isinstance(error, requests.ConnectionError) else str(error)
        raise StageError(f"download failed or broke off ({reason})") from None
