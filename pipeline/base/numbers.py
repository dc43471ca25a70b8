"""Numbers that a command takes; argparse names them where it refuses another."""

import math
import re


def positive(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def natural(text: str) -> int:
    """A whole number, zero or more."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def amount(text: str) -> float:
    """A number, zero or more."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def size(text: str) -> int:
    """Bytes: 15M, 500k, 1G or a whole number."""
    found = re.fullmatch(r"(\d+)([kMG]?)B?", text)
    if not found:
        raise ValueError(text)
    return int(found[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]]
