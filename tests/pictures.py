"""Pictures of the default study's report for docs/reading.md: `python -m tests.pictures`, after a new run of it."""

import base64
import io
import json
import tempfile
from pathlib import Path

from PIL import Image

from tests import browser, repo

FOLDER = repo.ROOT / "docs/pictures"
WIDTH, MARGIN, COLOURS = (
    1240,
    12,
    64,
)  # pixels of the window, around an element; colours of a picture, so that it has some ten kilobytes
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


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser.started() as tab:
        page = repo.export(Path(scratch), "reports/report.html") / "reports/report.html"
        tab.look(WIDTH)
        tab.open(page)
        for name, part in PARTS.items():
            picture(tab, part).save(FOLDER / f"{name}.png", optimize=True)
            print(FOLDER / f"{name}.png", (FOLDER / f"{name}.png").stat().st_size)


def picture(tab: browser.Browser, part: str) -> Image.Image:
    """What the page shows of one element, in few colours."""
    box = tab.evaluate(
        f"(box => [box.x + scrollX, box.y + scrollY, box.width, box.height])"
        f"(document.querySelector({json.dumps(part)}).getBoundingClientRect())"
    )
    x, y, width, height = box
    clip = {"x": x - MARGIN, "y": y - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN, "scale": 1}
    shot = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    return image.quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
