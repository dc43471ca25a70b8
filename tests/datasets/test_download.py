"""A download is whole and checked, or not there at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.datasets.collection import Download
from pipeline.datasets.download import cache_folder, official_file, url_file

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `broken` makes it hang up half-way for so many requests."""

    broken = 0
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        short = self.server.broken > 0
        self.server.broken -= short
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if short else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_broken_download_leaves_nothing_and_the_next_one_is_whole(server: Server, tmp_path: Path) -> None:
    server.broken = 1
    download = Download("data.zip", (server.url,), SHA256)
    with pytest.raises(StageError, match="broke off"):
        official_file(download, tmp_path)
    assert files(tmp_path) == []
    assert official_file(download, tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == ["data.zip"]


def test_what_is_there_and_sound_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    download = Download("data.zip", (server.url,), SHA256)
    official_file(download, tmp_path)
    official_file(download, tmp_path)
    assert server.requests == 1


def test_half_a_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(CONTENT[:100])
    path = official_file(Download("data.zip", (server.url,), SHA256), tmp_path)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_names_both_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=f"SHA-256 is {SHA256}, not the published {'0' * 64}"):
        official_file(Download("data.zip", (server.url,), "0" * 64), tmp_path)
    assert files(tmp_path) == []


def test_second_mirror_serves_where_the_first_does_not(server: Server, tmp_path: Path) -> None:
    urls = (server.url.replace("data.zip", "missing"), server.url)
    assert official_file(Download("data.zip", urls, SHA256), tmp_path).read_bytes() == CONTENT


def test_no_network_is_said(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(StageError, match="no connection"):
        official_file(Download("data.zip", (server.url,), SHA256), tmp_path)


def test_url_without_a_known_checksum_reports_it_and_is_kept(server: Server, tmp_path: Path) -> None:
    server.broken = 1
    with pytest.raises(StageError, match="broke off"):
        url_file(server.url, tmp_path)
    path, sha256 = url_file(server.url, tmp_path)
    assert (path.name, path.read_bytes(), sha256) == ("data.zip", CONTENT, SHA256)
    assert url_file(server.url, tmp_path) == (path, sha256)
    assert server.requests == 2


def test_experiments_share_the_checkouts_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for checkout in (tmp_path, tmp_path / ".dvc" / "tmp" / "exps" / "copy"):
        (checkout / ".dvc").mkdir(parents=True, exist_ok=True)
        (checkout / "studies" / "mine").mkdir(parents=True)
        monkeypatch.chdir(checkout / "studies" / "mine")
        assert cache_folder() == tmp_path / ".versus" / "downloads"
