"""Pictures within the page: figures as inline SVG, photos as data."""

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.dom import NotFoundErr, minidom

from markupsafe import Markup

from pipeline.images.picture import opened
from pipeline.report import drawing

UNWRITABLE = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"  # characters that XML has no place for
SILENT = ("#comment", "metadata", "style")  # of a figure: a style of its own would be the whole page's


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


def inline_svg(path: Path, name: str) -> Markup:
    """A figure to stand in the page: ids of its own, colours and font those of the page, width as the page has room.

    Only attributes are changed, which matplotlib wrote; text, which has the names of classes, stays as it is. Without
    its DOCTYPE a file has no entities to expand.
    """
    svg = path.read_text(encoding="utf-8")
    document = minidom.parseString(re.sub(UNWRITABLE, "\ufffd", svg[svg.index("<svg") :]).encode())
    root: Any = document.documentElement
    points = float(root.getAttribute("width").removesuffix("pt"))
    for each in ("width", "height"):
        root.removeAttribute(each)
    for element in [*_elements(root)]:
        _prune(element)
        for key, value in element.attributes.items():
            element.setAttribute(key, _of_the_page(key, value, name))
    looks = classed(root, name)
    style = document.createElement("style")
    style.appendChild(document.createTextNode("\n" + "".join(f".{each}{{{look}}}\n" for look, each in looks.items())))
    root.insertBefore(style, root.firstChild)
    opening = {"aria-hidden": "true", "style": f"min-width:{0.85 * points:.0f}px;max-width:{1.5 * points:.0f}px"}
    for key, value in opening.items():  # the figure has the text; a point is 4/3 px
        root.setAttribute(key, value)
    return Markup(root.toxml())


def _elements(root: Any) -> Iterator[Any]:
    yield root
    yield from root.getElementsByTagName("*")


def _prune(element: Any) -> None:
    """Take off what says nothing in the page."""
    blank = False  # whether what stands before is
    for child in [*element.childNodes]:
        after, blank = blank, child.nodeType == child.TEXT_NODE and not child.data.strip()
        if blank and not after:
            child.data = "\n"
        elif blank or child.nodeName in SILENT or (child.nodeName == "g" and not child.childNodes):
            element.removeChild(child)
            blank = after
    if element.nodeName == "g" and not element.getAttribute("id").startswith("figure_") and element.hasAttribute("id"):
        element.removeAttribute("id")
    if element.getAttribute("transform").startswith("rotate(-0 "):
        element.removeAttribute("transform")


def _of_the_page(key: str, value: str, name: str) -> str:
    """An attribute's value with ids, colours, font and precision of the page."""
    if key in ("d", "points", "x", "y"):
        return shortened(value)
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return re.sub("^#", f"#{name}-", value)
    value = value.replace("url(#", f"url(#{name}-")
    for tone in ("INK", "SOFT", "GHOST", "FAINT", "PAPER"):
        value = value.replace(getattr(drawing, tone), f"var(--{tone.lower()})")
    return re.sub(r"font-family: [^;]*", "font-family: var(--sans)", value)


def classed(root: Any, name: str) -> dict[str, str]:
    """Have elements name what they look like instead of each spelling it out: a third of the bytes.

    Returns the name of each look.
    """
    looks: dict[str, str] = {}
    for element in _elements(root):
        if not element.hasAttribute("style"):
            continue
        clip = f"clip-path: {element.getAttribute('clip-path')}; " if element.hasAttribute("clip-path") else ""
        look = clip + element.getAttribute("style")
        for key in ("clip-path", "style"):
            with contextlib.suppress(NotFoundErr):
                element.removeAttribute(key)
        element.setAttribute("class", looks.setdefault(look, f"{name}-{len(looks)}"))
    return looks


def shortened(numbers: str) -> str:
    """Coordinates to a tenth of a point, a path's command said once for all its points: nobody sees it."""
    kept, command = [], ""
    for token in numbers.split():
        if not token.isalpha():
            kept.append(f"{float(token):.1f}".removesuffix(".0"))
        elif token == "M" or (token != command and (command, token) != ("M", "L")):  # after M, points are joined
            kept.append(command := token)
    return " ".join(kept)
