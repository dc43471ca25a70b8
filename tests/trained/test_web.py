"""`versus page`: every model's answer to one image, from this machine alone, and one line for what is no image."""

import json
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.images import picture
from pipeline.trained import answers, catalogue, side_by_side, web
from tests import browser, trees


@pytest.fixture(scope="module")
def address(trained_folder: Path) -> Iterator[str]:
    """The page of a trained study, as it is served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained_folder)
        models = side_by_side.SideBySide()
        listening = web.listen(0)
        server = uvicorn.Server(uvicorn.Config(web.app(models), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        end = time.monotonic() + 30
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


def asked(address: str, content: bytes, kind: str = web.BYTES, host: str = "") -> tuple[int, str]:
    """Status and body of what is answered to a file."""
    headers = {"Content-Type": kind} | ({"Host": host} if host else {})
    request = urllib.request.Request(f"{address}/answers", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def photo() -> bytes:
    return trees.encoded(trees.striped(2, 60, 40, 3, np.random.default_rng(0)))


@pytest.mark.usefixtures("trained_study")
def test_every_model_answers_as_predict_does_and_shows_what_it_looks_at(address: str, tmp_path: Path) -> None:
    path = trees.put(tmp_path / "photo.png", photo())
    status, body = asked(address, photo())
    found = json.loads(body)
    assert (status, [each["model"][:-2] for each in found["answers"]]) == (200, ["tiny", "vit", "hybrid"])
    assert found["size"].startswith("40 x 60 pixels")
    for each in found["answers"]:
        entry, _ = catalogue.choose(each["model"])
        network, config = catalogue.load(entry)
        image = answers.read(path, answers.packed(config, entry.name))
        ((_, _, logits),) = answers.scored(network, config, [("", image)])
        (expected,) = answers.ranked(logits, config["classes"], side_by_side.SHOWN)
        assert [one["class"] for one in each["classes"]] == [one["class"] for one in expected]
        assert [one["probability"] for one in each["classes"]] == pytest.approx([o["probability"] for o in expected])
        assert each["picture"].startswith("data:image/png;base64,")
        assert each["method"] in ("Grad-CAM", "attention rollout")


def bomb() -> bytes:
    """A small PNG that says that it has 60,000 x 60,000 pixels."""
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    ends = ((13, head), (0, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        size.to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for size, part in ends
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"https://example.org/cat.png", "unreadable or truncated image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable or truncated image"),
        (photo()[:-40], "unreadable or truncated image"),
        (bomb(), "are too many for an image to compare"),
        (b"\xff\xd8" + 101 * picture.SCANS[0], "a JPEG of more than 100 scans"),
        (b"", "it is empty"),
    ],
    ids=["link", "svg", "truncated", "bomb", "scans", "empty"],
)
def test_what_is_no_image_to_read_is_one_line(address: str, content: bytes, line: str) -> None:
    status, body = asked(address, content)
    error = json.loads(body)["error"]
    assert (status, line in error, "\n" in error) == (422, True, False), error


def test_more_than_an_image_may_have_is_not_read(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_BYTES", 1000)
    status, body = asked(address, bytes(200_000))
    assert (status, "larger than" in body) == (422, True)


def test_another_site_neither_asks_nor_reaches_it(address: str) -> None:
    assert asked(address, photo(), kind="text/plain")[0] == 415
    assert asked(address, photo(), host="rebound.example")[0] == 400
    with urllib.request.urlopen(f"{address}/", timeout=60) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_port_that_another_has_is_refused(address: str) -> None:
    with pytest.raises(StageError, match="choose another"):
        web.listen(int(address.rpartition(":")[2]))


def test_without_a_trained_model_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.study(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="no trained model"):
        side_by_side.SideBySide()


def test_in_a_browser_it_answers_and_asks_nobody_else(address: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(tmp_path / "a.png")
    with browser.started() as tab:
        tab.open(f"{address}/")
        document = tab.call("DOM.getDocument")["root"]["nodeId"]
        chooser = tab.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        tab.call("DOM.setFileInputFiles", files=[str(tmp_path / "a.png")], nodeId=chooser)
        tab.wait("document.querySelectorAll('article').length == 3")
        assert tab.messages == []
        assert all(request.startswith((address, "data:image/png")) for request in tab.requests)
