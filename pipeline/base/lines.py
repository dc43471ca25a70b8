"""Lines that a terminal of 120 columns shows as they are."""

import textwrap

WIDTH = 120  # characters


def folded(text: str) -> str:
    """Prose whose lines are broken between words where they are longer; what follows a break stands two spaces in."""
    return "\n".join(_folded(line) if len(line) > WIDTH else line for line in text.split("\n"))


def _folded(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
