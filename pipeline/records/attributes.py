"""What is known of images beside their class, such as age or camera: a value for each image and attribute.

A study has it as a table (CSV) or from its data set; fetch leaves such a table in data/raw, and split in
reports/data.json what it says of the test images.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters

from pipeline.base.errors import StageError, shown

TABLE = "attributes.csv"  # in data/raw
IMAGE = "image"  # the column that names images
MOST = 20  # values of an attribute
LONGEST = 80  # characters of an attribute or a value
UNKNOWN = "-"

Columns = Mapping[str, Sequence[str]]  # attribute -> its value in each image; empty where it is not known


@dataclass(frozen=True)
class Attribute:
    """An attribute of the test images: its values in order, and a letter for each image, `a` for the first value."""

    name: str
    levels: list[str]  # its values
    images: str  # UNKNOWN where it is not known

    @classmethod
    def of(cls, name: str, column: Sequence[str]) -> "Attribute":
        levels = sorted(set(column) - {""}, key=lambda value: (_natural(value), value))
        letters = {"": UNKNOWN, **dict(zip(levels, ascii_letters, strict=False))}
        return cls(name, levels, "".join(letters[value] for value in column))

    @property
    def column(self) -> list[str]:
        """The value in each image; empty where it is not known."""
        known = dict(zip(ascii_letters, self.levels, strict=False))
        return [known.get(letter, "") for letter in self.images]


def of_columns(columns: Columns) -> list[Attribute]:
    """The attributes of which something is known."""
    return [Attribute.of(name, column) for name, column in columns.items() if any(column)]


def read(path: Path, images: Sequence[str]) -> Columns:
    """What a table says of `images`, in a column `image` and one for each attribute; empty cells say nothing.

    Letters composed in different ways are the same. Raises StageError where it is no such table or names none of the
    images, and for an attribute that has too many values to be told of.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [_composed(cell).strip() for cell in next(lines, [])]
            rows = [(lines.line_num, [_composed(cell) for cell in line]) for line in lines if line]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StageError(f"{path}: not readable as CSV in UTF-8 ({reason})") from None
    names = [name for name in header if name != IMAGE]
    if len(set(header)) < len(header) or len(names) != len(header) - 1 or not names:
        found = shown(", ".join(header))
        raise StageError(f"{path}: wanted a column {IMAGE} and one for each attribute, got {found}")
    if "" in names:
        raise StageError(
            f"{path}: column {header.index('') + 1} has no name; name it, or save the table without its index"
        )
    if odd := next((number for number, row in rows if len(row) != len(header)), None):
        raise StageError(f"{path}: line {odd}: wanted {len(header)} fields, as in the first line")
    return _columns(path, header, [row for _, row in rows], images)


def _columns(path: Path, header: list[str], rows: list[list[str]], images: Sequence[str]) -> Columns:
    place = header.index(IMAGE)
    known = {row[place]: row for row in rows}
    if len(known) < len(rows):
        twice, _ = Counter(row[place] for row in rows).most_common(1)[0]
        raise StageError(f"{path}: names {shown(twice)} twice; leave one line of each image")
    if known.keys().isdisjoint(images):
        raise StageError(f"{path}: names none of the images; they are called as {shown(images[0])}")
    nothing = [""] * len(header)
    found = {
        name: [known.get(image, nothing)[column].strip() for image in images]
        for column, name in enumerate(header)
        if name != IMAGE
    }
    for name, column in found.items():
        _refuse_unfit(path, name, set(column))
    return found


def _refuse_unfit(path: Path, name: str, values: set[str]) -> None:
    """Raise for an attribute with too many values, or a name or value that no table can show as it is."""
    if len(values - {""}) > MOST:
        raise StageError(f"{path}: {shown(name)} has {len(values - {''})} values; group them to {MOST} or fewer")
    if unfit := next((text for text in [name, *values] if len(text) > LONGEST or not text.isprintable()), None):
        raise StageError(f"{path}: {shown(unfit)}: {LONGEST} characters at most, all of them printable; rename it")


def write(path: Path, images: Iterable[str], columns: Columns) -> None:
    """Write a table that `read` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((IMAGE, *columns))
        table.writerows(zip(images, *columns.values(), strict=True))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _natural(value: str) -> list[tuple[int, str]]:
    """Text by which 4-19 comes before 20-39."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", value)]
