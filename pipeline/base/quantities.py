"""Amounts for reading: numbers with prefixes, sizes of files, times."""

import math
from collections.abc import Sequence


def quantity(value: float) -> str:
    """11181642 -> 11.2 M; decimal prefixes, three figures."""
    scaled, unit = _scaled(value)
    return f"{scaled:.{max(0, 2 - int(math.log10(max(scaled, 1))))}f} {unit}" if unit else f"{value:.0f}"


def short(value: float) -> str:
    """25128 -> 25.1 k, 4000 -> 4 k, 0.05 -> 0.05: up to three figures, for the axis of a figure"""
    scaled, unit = _scaled(value)
    return f"{scaled:.3g} {unit}".rstrip()


def _scaled(value: float) -> tuple[float, str]:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            return value / limit, unit
    return value, ""


def size(value: float) -> str:
    """44746568 -> 44.7 MB (a megabyte is 10^6 bytes)"""
    return in_units(value, "B")


def in_units(value: float, unit: str) -> str:
    """1230, J -> 1.23 kJ; 950, J -> 950 J"""
    text = quantity(value)
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def duration(seconds: float) -> str:
    """3.21 -> 3.2 s; 192 -> 3 min 12 s; 7260 -> 2 h 1 min"""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def enumerated(names: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
