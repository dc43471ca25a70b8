"""An SVG of matplotlib's in a third of its bytes, to stand alone or within a page.

Coordinates are tenths of a point, which nobody sees; a look is said once, in a style of this figure's own, instead of
at every element; ids are the figure's own, too. Text stays as it is.
"""

import itertools
import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

NAMESPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
SVG, HREF = f"{{{NAMESPACES['']}}}", f"{{{NAMESPACES['xlink']}}}href"
UNWRITABLE = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"  # characters that XML has no place for
POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3}  # of one command of a path
for each in NAMESPACES.items():
    ET.register_namespace(*each)


def compact(text: str, name: str) -> str:
    """The figure `name` of the same looks; without its DOCTYPE the text has no entities to expand."""
    root = ET.fromstring(re.sub(UNWRITABLE, "\ufffd", text[text.index("<svg") :]))
    root[:] = [kept for child in root for kept in _kept(child)]
    looks: dict[str, str] = {}
    for element in root.iter():
        _shorten(element, name)
        if look := _look(element, name):
            element.set("class", looks.setdefault(look, f"a{len(looks)}"))
        element.tail = "\n"
    root.attrib |= {"id": f"{name}-figure", "stroke-linejoin": "round"}
    style = ET.Element(f"{SVG}style")
    style.text = "".join(f"\n#{name}-figure .{each}{{{look}}}" for look, each in looks.items()) + "\n"
    style.tail = "\n"
    root.insert(0, style)
    return ET.tostring(root, "unicode")


def _kept(element: ET.Element) -> list[ET.Element]:
    """What shows of an element: not the style of all figures nor the metadata, no group that says nothing."""
    if element.tag in (f"{SVG}metadata", f"{SVG}style"):
        return []
    element[:] = [kept for child in element for kept in _kept(child)]
    if element.tag == f"{SVG}g":
        element.attrib.pop("id", None)
        return [element] if element.attrib and len(element) else list(element)
    return [] if element.tag == f"{SVG}defs" and not len(element) else [element]


def _look(element: ET.Element, name: str) -> str:
    """Take off an element what it looks like."""
    clip, look = (element.attrib.pop(key, "") for key in ("clip-path", "style"))
    clip = clip.replace("url(#", f"url(#{name}-")
    return "; ".join(each for each in (f"clip-path: {clip}" if clip else "", look) if each)


def _shorten(element: ET.Element, name: str) -> None:
    for key, value in element.items():
        if key == "d":
            element.set(key, path(value))
        elif key in ("x", "y", "width", "height") and value[-1].isdigit():
            element.set(key, _short(round(10 * float(value))))
        elif key == "transform":
            short = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
            element.set(key, short) if not short.startswith("rotate(-0 ") else element.attrib.pop(key)
        elif key == "id":
            element.set(key, f"{name}-{value}")
        elif key == HREF:
            element.set(key, re.sub("^#", f"#{name}-", value))


def path(drawn: str) -> str:
    """A path of absolute commands as one of relative ones in tenths of a point, whose roundings do not add up."""
    kept, last, start, here = [], "", (0, 0), (0, 0)
    for command, points in _commands(drawn):
        if command == "z":
            kept.append("z")
            last, here = "", start
            continue
        steps = [(x - here[0], y - here[1]) for x, y in points]
        here = points[-1]
        if command == "M":
            start = here
        kept += [command.lower()] if command != last else [" "]
        kept.append(" ".join(f"{_short(x)} {_short(y)}" for x, y in steps))
        last = "L" if command == "M" else command  # further points of a move are joined
    return "".join(kept).replace(" -", "-")


def _commands(drawn: str) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Each command of a path with its points in tenths."""
    tokens = iter(drawn.split())
    for command in tokens:
        numbers = [round(10 * float(each)) for each in itertools.islice(tokens, 2 * POINTS.get(command, 0))]
        yield command, list(zip(numbers[::2], numbers[1::2], strict=True))


def _short(tenths: int) -> str:
    """12 -> 1.2; 5 -> .5; -30 -> -3"""
    return f"{tenths / 10:g}".replace("0.", ".", 1) if abs(tenths) < 10 else f"{tenths / 10:.1f}".removesuffix(".0")
