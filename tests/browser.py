"""A headless Chromium that opens a page and says what went on in it, over its own debugging protocol."""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),  # root has no sandbox
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0", "about:blank"),
)
SECONDS = 90  # a busy machine takes its time
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), "End": (35, "")}


def executable() -> str:
    """Where Chromium is; skips the test where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no browser; on Debian and Ubuntu `apt install chromium`, or CHROMIUM=/path/to/chrome")
    return found


@contextmanager
def started() -> Iterator["Browser"]:
    """A browser with one tab; it ends with the block."""
    command = executable()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [command, f"--user-data-dir={profile}", *FLAGS],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        try:
            port = next(found[1] for line in process.stderr if (found := re.search(r"ws://[^:]+:(\d+)/", line)))
            with Browser(int(port)) as browser:
                yield browser
        finally:
            process.terminate()
            process.wait()
            process.stderr.close()


class Browser:
    """One tab. `messages` are errors and warnings of the console, `requests` addresses that the page asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.loop = asyncio.new_event_loop()
        self._count = 0
        self._loaded = False

    def __enter__(self) -> Self:
        self.loop.run_until_complete(self._connect())
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self._disconnect())
        self.loop.close()

    async def _connect(self) -> None:
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://127.0.0.1:{self.port}/json") as answer:
            tabs = await answer.json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self.socket = await self.session.ws_connect(address, max_msg_size=0)

    async def _disconnect(self) -> None:
        await self.socket.close()
        await self.session.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, SECONDS))

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self._run(self._call(method, arguments))

    async def _call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        mine = self._count
        await self.socket.send_json({"id": mine, "method": method, "params": arguments})
        while True:
            answer = await self.socket.receive_json()
            if answer.get("id") == mine:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, content = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(content["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(content["args"]))
        elif method == "Log.entryAdded":
            self.messages.append(content["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])

    def open(self, page: Path | str) -> None:
        """Open a file or an address, and wait until it is loaded."""
        self.messages.clear()
        self.requests.clear()
        self._loaded = False
        self.call("Page.navigate", url="about:blank")  # from one part of an address to another, nothing would load
        self._run(self._until_loaded())
        self._loaded = False
        self.call("Page.navigate", url=page.resolve().as_uri() if isinstance(page, Path) else page)
        self._run(self._until_loaded())

    async def _until_loaded(self) -> None:
        while not self._loaded:
            self._note(await self.socket.receive_json())

    def look(self, width: int, scheme: str = "light", media: str = "screen") -> None:
        """Set the width of the window in pixels, the colour scheme that the user prefers, and the medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # it is told so

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + SECONDS
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.1)

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))
