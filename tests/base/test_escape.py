"""Names of others where they could be taken for more: Markdown, spreadsheets, metrics."""

import random

import pytest
from markdown_it import MarkdownIt

from pipeline.base import escape

NAMES = (
    "<script>alert(1)</script>",
    "[here](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "**bold** _soft_ ~~gone~~ `code`",
    "a|b",
    "R&amp;D",
    "$x^2$",
    "# title",
    "> quoted",
    "- listed",
    "www.evil.example",
    "line\nline",
    "\u202egnp.exe",
    "\x1b[31mred",
    "\\",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_markdown_is_read_as_it_is_written(name: str) -> None:
    """MLflow, GitHub and editors read CommonMark with tables; so does this reader of it."""
    reader = MarkdownIt("gfm-like", {"linkify": False})
    plain = " ".join("".join(each for each in name if each.isprintable() or each.isspace()).split())
    for before in ("", "Class "):
        opening, paragraph, closing = reader.parse(f"{before}{escape.markdown(name)}.")
        assert (opening.type, closing.type) == ("paragraph_open", "paragraph_close")
        assert {child.type for child in paragraph.children or ()} <= {"text", "text_special"}
        assert "".join(child.content for child in paragraph.children or ()) == f"{before}{plain}."
    (span,) = [t.children for t in reader.parse(f"As {escape.code(name)} is.") if t.type == "inline"]
    assert [child.content for child in span if child.type == "code_inline"] == [plain]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-rf", "'-rf"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("＝1", "'＝1"),
        ("a;=1+1", "a;'=1+1"),
        ("a\n=1", "a\n'=1"),
        ("a-b = c", "a-b = c"),
        ("cat", "cat"),
        (-0.5, -0.5),
    ],
)
def test_a_spreadsheet_computes_nothing_of_a_name(text: object, kept: object) -> None:
    assert escape.cell(text) == kept


def test_metrics_have_names_that_are_readable_unique_and_the_same_in_every_stage() -> None:
    keys = [
        "test_f1/cat",
        "test_f1/Größe [m]",
        "test_f1/<5mm",
        "test_f1/>5mm",
        "test_f1/A",
        "test_f1/a",
        "f/" + "x" * 400,
    ]
    names = escape.metrics(keys)
    assert names["test_f1/cat"] == "test_f1/cat"
    assert names["test_f1/Größe [m]"].startswith("test_f1/Größe _m_-")
    assert len({name.casefold() for name in names.values()}) == len(keys)
    assert max(map(len, names.values())) <= 250
    random.Random(0).shuffle(keys)
    assert escape.metrics(keys) == names
    assert escape.metrics(["test_f1/<5mm"])["test_f1/<5mm"] == names["test_f1/<5mm"]
    assert escape.metrics(["a/../b"])["a/../b"].startswith("a_.._b-")
