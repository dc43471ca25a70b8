"""Pictures of the default study for README and docs: `python -m tests.pictures`, after a new run of it here.

Those of the report are of the committed page; that of MLflow's table is of the runs that this checkout has.
"""

import base64
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from tests import browser, repo

DOCS = repo.ROOT / "docs"
WIDTH = 1240  # pixels of the window
MARGIN = 12  # around an element
COLOURS = 64  # of a picture, so that it has some ten kilobytes
PARTS = {  # picture -> elements of the page, the first of which is taken
    "summary": "header",
    "comparison": "#comparison",
    "pairs": "#pairs",
    "cost": "#cost figure",
    "confusion": "#confusion figure",
    "classes": "#classes figure",
    "training": "#training figure",
    "calibration": "#calibration figure",
}
TOP = {"x": 0, "y": 0, "width": 1000, "height": 1180, "scale": 1}  # of the report, for the README
TABLE = {"x": 0, "y": 0, "width": 1500, "height": 760, "scale": 1}  # of MLflow's runs
CLOSED = "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')"  # what MLflow opens once on a first visit
DRAWN = "document.querySelectorAll('.ag-center-cols-container .ag-row').length > 2"  # the table has its runs


def main() -> None:
    with browser.started() as tab:
        report(tab)
        runs(tab)


def report(tab: browser.Browser) -> None:
    """The report's first screen, and a picture of each element that docs/reading.md explains."""
    with tempfile.TemporaryDirectory() as scratch:
        page = repo.export(Path(scratch), "reports/report.html") / "reports/report.html"
        tab.look(TOP["width"])
        tab.open(page)
        keep(shot(tab, TOP), "report.png")
        tab.look(WIDTH)
        for name, part in PARTS.items():
            keep(shot(tab, around(tab, part)), f"pictures/{name}.png")


def runs(tab: browser.Browser) -> None:
    """MLflow's table of runs, as the address that `versus ui` prints first opens it."""
    (port,) = repo.free_ports()
    command = [sys.executable, "-m", "pipeline.cli", "ui", "--port", str(port)]
    server = subprocess.Popen(command, cwd=repo.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        address = next(found[1] for line in server.stdout if (found := re.match(r"\S+ +(http\S+/runs\S+)$", line)))
        tab.look(TABLE["width"])
        tab.open(address)
        tab.wait(DRAWN)
        tab.evaluate(CLOSED)
        tab.open(address)
        tab.wait(DRAWN)
        keep(shot(tab, TABLE), "mlflow.png")
    finally:
        server.terminate()
        server.wait()


def around(tab: browser.Browser, part: str) -> dict[str, float]:
    """Where an element stands on the page, with a margin."""
    x, y, width, height = tab.evaluate(
        f"(box => [box.x + scrollX, box.y + scrollY, box.width, box.height])"
        f"(document.querySelector({json.dumps(part)}).getBoundingClientRect())"
    )
    return {"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN, "scale": 1}


def shot(tab: browser.Browser, clip: Mapping[str, float]) -> Image.Image:
    """What a part of the page shows, in few colours."""
    taken = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    image = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    return image.quantize(COLOURS, dither=Image.Dither.NONE)


def keep(picture: Image.Image, name: str) -> None:
    file = DOCS / name
    picture.save(file, optimize=True)
    print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
