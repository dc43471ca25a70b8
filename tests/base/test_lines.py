"""No line is wider than a terminal, and none is changed that has room."""

from pipeline.base.lines import WIDTH, folded


def test_prose_is_broken_between_words_and_loses_none() -> None:
    text = "doctor: " + "no duplicates among well-known images; " * 9
    lines = folded(text).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert min(map(len, lines[:-1])) > WIDTH - len("duplicates ")
    assert " ".join(line.strip() for line in lines) == text.strip()
    assert all(line.startswith("  ") for line in lines[1:])


def test_lines_that_have_room_and_words_that_have_none_stay_as_they_are() -> None:
    table = f"a  b   c\n{'─' * WIDTH}\n  1  2  3\n"
    assert folded(table) == table
    assert folded("x" * 200) == "x" * 200
