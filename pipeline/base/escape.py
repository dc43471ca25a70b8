"""How names that others chose, of classes, models, studies and settings, stand where they could be taken for more.

`stage.shown` is their form in a terminal; the templates of the report page escape by themselves.
"""

import hashlib
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

LONGEST = 250  # characters that MLflow takes of a metric's name
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{symbol: "\\" + symbol for symbol in "&%$#_{}"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def markdown(text: str) -> str:
    """Text in Markdown, on one line, in which nothing is markup, HTML, a link or mathematics."""
    return re.sub(r"([\\`*_<|~&$]|^[>#]|^[-+](?=\s)|\](?=[(\[:])|:(?=//)|(?<=www)\.)", r"\\\1", _on_one_line(text))


def code(text: str) -> str:
    """Text as a code span of Markdown, whatever backticks it has."""
    text = _on_one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def latex(text: str) -> str:
    escaped = "".join(LATEX.get(symbol, symbol) for symbol in _on_one_line(text))
    return f"{{{escaped}}}" if escaped.startswith("[") else escaped  # a bracket after \\ would be its argument


def cell(value: object) -> object:
    """A value of a table that people open in a spreadsheet: text that would be computed there gets an apostrophe.

    A program that splits lines at semicolons or tabs sees further cells in it.
    """
    return re.sub(r"(^|[;\t\r\n]\s*)(?=[=+\-@\t\r＝＋－＠])", r"\1'", value) if isinstance(value, str) else value


def metrics(keys: Iterable[str]) -> dict[str, str]:
    """Names for metrics that MLflow takes and no data base takes for each other, by the keys that they stand for.

    Letters, digits and `_-. :/` stay, the rest becomes `_`. What was changed, and what differs from another key only in
    what data bases pass over, has the first digits of its key's SHA-256 at the end.
    """
    cleaned = {key: _metric(key) for key in keys}
    alike = Counter(map(_folded, cleaned.values()))
    return {
        key: name if name == key and alike[_folded(name)] == 1 else f"{name[: LONGEST - 9]}-{_digest(key)}"
        for key, name in cleaned.items()
    }


def _metric(key: str) -> str:
    name = re.sub(r"[^\w\-. :/]", "_", key)[:LONGEST]
    return name if posixpath.normpath(name) == name else name.replace("/", "_")


def _folded(name: str) -> str:
    """What is left of a name where case, accents and spaces and dots at the end do not count."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each)).rstrip(" .")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _on_one_line(text: str) -> str:
    """Text with single spaces, without control characters and what turns the direction of reading."""
    return " ".join("".join(each for each in text if each.isprintable() or each.isspace()).split())
