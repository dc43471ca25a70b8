"""A figure's SVG is small, shows what matplotlib drew, and can stand beside others in a page."""

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline.report import drawing, pictures, svg
from pipeline.report.sections import confusion

LAUGHS = '<!DOCTYPE svg [<!ENTITY a "aaaa">]>'
SPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def shown(content: str) -> str:
    return svg.compact(f"{LAUGHS}<svg {SPACES}>{content}</svg>", "x")


def points(path: str) -> list[tuple[int, int]]:
    """The points of a path in tenths, a curve's controls among them."""
    found, here, start = [], (0, 0), (0, 0)
    for command, text in re.findall("([Mlhvcqz])([^Mlhvcqz]*)", path):
        numbers = [round(10 * float(each)) for each in re.findall(r"-?\d*\.?\d+", text)]
        if command in "hv":
            numbers = [each for number in numbers for each in ((number, 0) if command == "h" else (0, number))]
        elif command == "z":
            here = start
        size = 2 * {"c": 3, "q": 2}.get(command, 1)
        for step in (numbers[place : place + size] for place in range(0, len(numbers), size)):
            origin = (0, 0) if command == "M" else here
            found += [(origin[0] + x, origin[1] + y) for x, y in zip(step[::2], step[1::2], strict=True)]
            here = found[-1]
        start = here if command == "M" else start
    return found


def test_a_path_of_steps_leads_to_the_same_points_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-500, 500, (2000, 2))
    corners[500:700, 0], corners[800:900, 1] = 0.04, 7  # along an axis
    commands = [*("L" if row % 100 else "M" for row in range(1000)), *["L"] * 997, "C"]
    tokens = [f"{command} {x:f} {y:f}" for command, (x, y) in zip(commands, corners, strict=False)]
    drawn = "\n".join([*tokens, *(f"{x:f} {y:f}" for x, y in corners[-2:]), "z", "M 3 4 L 5 6"])
    wanted = [*map(tuple, np.round(10 * corners).astype(int).tolist()), (30, 40), (50, 60)]
    assert points(svg.path(drawn)) == wanted
    assert len(svg.path(drawn)) < 0.6 * len(drawn)


def test_a_path_says_a_command_once_and_goes_on_after_its_end_from_its_start() -> None:
    assert svg.path("M 1.26 2.00 L 3.04 4 L 5 6") == "M1.3 2l1.7 2 2 2"
    assert svg.path("M 10 10 L 20 10 L 20 20 z M 30 30 L 29.5 30") == "M10 10h10v10zM30 30h-.5"
    assert svg.path("M 7 8 C 1 2 3 4 5 6 C 7 8 9 1 2 3 L 4 5") == "M7 8c-6-6-4-4-2-2 2 2 4-5-3-3l2 2"


def test_paths_of_one_look_are_one_unless_it_would_show_where_they_cross() -> None:
    lines = '<path d="M 1 1 L 2 3" style="stroke: red{0}"/><path d="M 1 3 L 2 1" style="stroke: red{0}"/>'
    assert shown(lines.format("")).count("<path") == 1
    assert "M1 1l1 2M1 3l1-2" in shown(lines.format(""))
    assert shown(lines.format("; stroke-opacity: 0.5")).count("<path") == 2


def test_a_figure_says_once_what_its_elements_look_like_and_keeps_its_texts(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 30, (10, 10))
    figure = confusion.confusion_matrices_figure(
        {f"m{n}": counts for n in range(4)}, [f"class_{n}$" for n in range(10)]
    )
    with drawing.style():
        figure.savefig(tmp_path / "plain.svg")
    drawing.save(figure, tmp_path, "matrices")
    plain, small = ((tmp_path / f"{name}.svg").read_text() for name in ("plain", "matrices"))
    assert len(small) < 0.4 * len(plain)
    body = small[small.index("</style>") :]
    assert "style=" not in body
    assert set(re.findall(r'class="([^"]*)"', body)) == set(
        re.findall(r"^#matrices-figure \.(\w+){", small, re.MULTILINE)
    )
    texts = [[each.text for each in ET.fromstring(file).iter(f"{svg.SVG}text")] for file in (plain, small)]
    assert texts[0] == texts[1]


def test_figures_in_one_page_have_no_id_in_common_and_refer_to_their_own(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        figure = Figure()
        figure.subplots().plot([1, 2, 3], [1, 0, 2], "o-")
        drawing.save(figure, tmp_path, name)
        text = (tmp_path / f"{name}.svg").read_text()
        ids = re.findall(r' id="([^"]*)"', text)
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)) <= {(each, "") for each in ids} | {
            ("", each) for each in ids
        }
        found += ids
    assert len(found) == len(set(found)) > 4


def test_colours_and_font_in_the_page_are_the_pages_but_not_in_names(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0, 0.5, drawing.INK, color=drawing.INK, family="DejaVu Sans")
    drawing.save(figure, tmp_path, "x")
    inline = pictures.inline_svg(tmp_path / "x.svg")
    assert "fill: var(--ink)" in inline
    assert f">{drawing.INK}</text>" in inline
    assert "font-family: var(--sans)" in inline
    assert "DejaVu" not in inline


def test_pixels_are_the_same_in_fewer_bytes_in_the_page(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (60, 60))
    drawing.save(confusion.confusion_matrices_figure({"m": counts}, [str(each) for each in range(60)]), tmp_path, "x")
    file, inline = (tmp_path / "x.svg").read_text(), pictures.inline_svg(tmp_path / "x.svg")
    assert len(inline) < len(file)
    pixels = [
        [
            Image.open(io.BytesIO(base64.b64decode(each)))
            for each in re.findall(r'"data:image/\w+;base64,([^"]*)"', text)
        ]
        for text in (file, inline)
    ]
    assert len(pixels[0]) == 2  # the cells and the scale beside them
    for drawn, within in zip(*pixels, strict=True):
        assert np.array_equal(drawn.convert("RGB"), within.convert("RGB"))


def test_a_character_that_xml_has_no_place_for_and_an_entity_do_no_harm() -> None:
    assert ">\ufffd</text>" in shown('<text x="1.26" style="fill: #1f2933">\x01</text>')
    assert 'x="1.3"' in shown('<text x="1.26">a</text>')
    with pytest.raises(ET.ParseError, match="undefined entity"):
        shown("<text>&a;</text>")
