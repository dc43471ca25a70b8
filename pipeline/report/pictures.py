"""Pictures within the page: figures as inline SVG, photos as data."""

import base64
import io
import json
import re
from pathlib import Path

from markupsafe import Markup

from pipeline.images.picture import opened
from pipeline.report import drawing


def embedded(content: object) -> Markup:
    """JSON to stand in a script element: no text in it ends the element or opens a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", r"\u003c").replace("&", r"\u0026"))


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def lossless(png: bytes, most: int | None = None) -> str:
    """The same pixels in about half the bytes; of a picture with a side of more than `most` pixels, fewer."""
    picture = opened(png, "a picture of the report")
    if most:
        picture.thumbnail((most, most))
    webp = io.BytesIO()
    picture.save(webp, "webp", lossless=True, method=6)
    return data_uri(min(webp.getvalue(), png, key=len), "webp" if webp.tell() < len(png) else "png")


def lossy(content: bytes) -> str:
    """A photo in a third of the bytes of its JPEG, where nobody sees the difference."""
    webp = io.BytesIO()
    opened(content, "a picture of the report").save(webp, "webp", quality=70, method=6)
    return data_uri(min(webp.getvalue(), content, key=len), "webp" if webp.tell() < len(content) else "jpeg")


def inline_svg(path: Path) -> Markup:
    """A figure of `drawing.save` to stand in the page: colours and font those of the page, width as the page has room.

    Only its looks and pixels are changed, which matplotlib wrote; text, which has the names of classes, stays as it is.
    """
    root, looks, drawn = re.split("</?style>", path.read_text(encoding="utf-8"))
    for tone in ("INK", "SOFT", "GHOST", "FAINT", "PAPER"):
        looks = looks.replace(getattr(drawing, tone), f"var(--{tone.lower()})")
    looks = re.sub(r"font-family: [^;}]*", "font-family: var(--sans)", looks)
    points = float(re.search(r' width="([\d.]+)pt"', root)[1])  # type: ignore[index]  # a point is 4/3 px
    size = f'aria-hidden="true" style="min-width:{0.85 * points:.0f}px;max-width:{1.5 * points:.0f}px"'
    root = re.sub(r' (width|height)="[^"]*"', "", root).replace("<svg ", f"<svg {size} ", 1)  # the page has the text
    pixels = r'(?<=href=")data:image/png;base64,([^"]*)'
    drawn = re.sub(
        "<image [^>]*>",
        lambda image: re.sub(pixels, lambda png: lossless(base64.b64decode(png[1])), image[0]),
        drawn,
    )
    return Markup(f"{root}<style>{looks}</style>{drawn}")
