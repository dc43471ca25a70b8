"""Numbers that a command takes; argparse names them where it refuses another."""

import math


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
