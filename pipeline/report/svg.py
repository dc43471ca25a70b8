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
Box = tuple[float, float, float, float]  # left, top, width and height in points
POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3}  # of one command of a path
for each in NAMESPACES.items():
    ET.register_namespace(*each)


def compact(text: str, name: str, shown: Box | None = None) -> str:
    """The figure `name`, looking the same, cut to what is `shown`; without its DOCTYPE it has no entities to expand."""
    root = ET.fromstring(re.sub(UNWRITABLE, "\ufffd", text[text.index("<svg") :]))
    if shown:
        left, top, width, height = shown
        root.attrib |= {"width": f"{width}pt", "height": f"{height}pt", "viewBox": f"{left} {top} {width} {height}"}
    looks: dict[str, str] = {}
    for element in root.iter():
        _shorten(element, name)
        _classify(element, looks)
    clear = {each for look, each in looks.items() if "opacity" in look}
    root[:] = _joined(root, clear)
    root.attrib |= {"id": f"{name}-figure", "stroke-linejoin": "round"}
    style = ET.Element(f"{SVG}style")
    style.text = "".join(f"\n#{name}-figure .{each}{{{look}}}" for look, each in looks.items()) + "\n"
    root.insert(0, style)
    for element in root.iter():
        element.tail = "\n"
    return ET.tostring(root, "unicode")


def _joined(element: ET.Element, clear: set[str]) -> list[ET.Element]:
    """What shows of the content: no metadata, no style of all figures, no group that says nothing.

    Paths of one look that follow each other are one, unless it is a `clear` one: where they cross it would show.
    """
    kept: list[ET.Element] = []
    for child in (shown for each in element for shown in _shown(each, clear)):
        if kept and child.tag == kept[-1].tag == f"{SVG}path" and _alike(child, kept[-1], clear):
            kept[-1].set("d", kept[-1].get("d", "") + child.get("d", ""))
        else:
            kept.append(child)
    return [each for look, texts in itertools.groupby(kept, _text) for each in _together(look, list(texts))]


def _text(element: ET.Element) -> str:
    """What a text looks like; nothing of other elements."""
    return element.get("class", "") if element.tag == f"{SVG}text" else ""


def _together(look: str, elements: list[ET.Element]) -> list[ET.Element]:
    """Texts of one look in a group that says it for all."""
    if not look or len(elements) == 1:
        return elements
    group = ET.Element(f"{SVG}g", {"class": look})
    group.extend(elements)
    for each in elements:
        each.attrib.pop("class")
    return [group]


def _shown(element: ET.Element, clear: set[str]) -> list[ET.Element]:
    """The element, or what is in it where it says nothing itself."""
    if element.tag in (f"{SVG}metadata", f"{SVG}style"):
        return []
    if element.tag not in (f"{SVG}g", f"{SVG}defs"):
        return [element]
    element.text = None
    element[:] = _joined(element, clear)
    if element.tag == f"{SVG}g":
        element.attrib.pop("id", None)
        return [element] if element.attrib and len(element) else list(element)
    return [element] if len(element) else []


def _alike(first: ET.Element, second: ET.Element, clear: set[str]) -> bool:
    """Whether two paths differ in nothing but where they lead."""
    looks = [{key: value for key, value in each.items() if key != "d"} for each in (first, second)]
    return looks[0] == looks[1] and set(looks[0]) == {"class"} and not clear.intersection(looks[0]["class"].split())


def _classify(element: ET.Element, looks: dict[str, str]) -> None:
    """Have an element name what it looks like, and what it is clipped to, rather than spell it out."""
    clip, look = (element.attrib.pop(key, "") for key in ("clip-path", "style"))
    named = [looks.setdefault(each, f"a{len(looks)}") for each in (clip and f"clip-path: {clip}", look) if each]
    if named:
        element.set("class", " ".join(named))


def _shorten(element: ET.Element, name: str) -> None:
    """Round an element's coordinates, and make its ids those of the figure `name`."""
    for key, value in list(element.items()):
        if key == "d":
            element.set(key, path(value))
        elif key in ("x", "y", "width", "height") and value[-1].isdigit():
            element.set(key, _short(round(10 * float(value))))
        elif key == "transform":
            short = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
            element.set(key, short) if not short.startswith("rotate(-0 ") else element.attrib.pop(key)
        elif key == "id":
            element.set(key, f"{name}-{value}")
        elif key in (HREF, "clip-path"):
            element.set(key, value.replace("#", f"#{name}-", 1))


def path(drawn: str) -> str:
    """A path of absolute commands as one of relative ones in tenths of a point, whose roundings do not add up."""
    kept, last, start, here = "", "", (0, 0), (0, 0)
    for command, points in _commands(drawn):
        if command == "z":
            kept, last, here = f"{kept}z", "", start
            continue
        steps, here = [(x - here[0], y - here[1]) for x, y in points], points[-1]
        letter, numbers = command.lower(), [each for step in steps for each in step]
        if command == "M":
            letter, numbers, start = "M", [*here], here
        elif command == "L" and 0 in steps[0]:  # along an axis
            letter, numbers = ("h", numbers[:1]) if not numbers[1] else ("v", numbers[1:])
        kept += (letter if letter != last else " ") + " ".join(map(_short, numbers))
        last = "" if letter == "M" else letter
    return kept.replace(" -", "-")


def _commands(drawn: str) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Each command of a path with its points in tenths."""
    tokens = iter(drawn.split())
    for command in tokens:
        numbers = [round(10 * float(each)) for each in itertools.islice(tokens, 2 * POINTS.get(command, 0))]
        yield command, list(zip(numbers[::2], numbers[1::2], strict=True))


def _short(tenths: int) -> str:
    """12 -> 1.2; 5 -> .5; -30 -> -3"""
    return re.sub(r"^(-?)0\.", r"\1.", f"{tenths / 10}".removesuffix(".0"))
