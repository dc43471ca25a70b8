"""rANS (Duda 2013, arXiv:1311.2540) in lanes: many symbols at a time, each by the table of frequencies that it names.

A lane is a state in [2**16, 2**32). A step codes one symbol in each lane; the 16-bit words that the lanes give off lie
in one stream. Symbols are encoded from the last step to the first, and decoded from the first to the last.

Shapes: L lanes, T tables.
"""

import numpy as np

BITS = 14  # frequencies of a table sum to 2**BITS
LOW = 1 << 16


def frequencies(counts: np.ndarray) -> np.ndarray:
    """Counts (T, 256) brought to the sum of 2**BITS, none that occurs below one: uint16 (T, 256)."""
    counts = counts.astype(np.int64)
    counts[counts.sum(1) == 0, 0] = 1
    scaled = np.maximum(counts * ((1 << BITS) - 256) // counts.sum(1, keepdims=True), counts > 0)
    scaled[np.arange(len(scaled)), scaled.argmax(1)] += (1 << BITS) - scaled.sum(1)
    return scaled.astype(np.uint16)


class Encoder:
    """Symbols to words, from the last step to the first."""

    def __init__(self, table: np.ndarray, lanes: int) -> None:
        self._frequency = table.astype(np.uint64).ravel()
        self._start = _starts(table).ravel()
        self._states = np.full(lanes, LOW, dtype=np.uint64)
        self._words: list[np.ndarray] = []  # of each step, the last step's first

    def put(self, tables: np.ndarray, symbols: np.ndarray) -> None:
        """Encode a step of the first lanes: their tables, integers (L,), and symbols, uint8 (L,)."""
        places = tables.astype(np.int64) * 256 + symbols
        frequency, states = self._frequency[places], self._states[: len(symbols)]
        full = states >= frequency << np.uint64(32 - BITS)
        self._words.append((states[full] & np.uint64(0xFFFF)).astype("<u2"))
        states[full] >>= np.uint64(16)
        whole, rest = np.divmod(states, frequency)
        states[:] = (whole << np.uint64(BITS)) + rest + self._start[places]

    def done(self) -> bytes:
        """All that a decoder needs beside the table: the states, then the words of the first step to the last."""
        words = np.concatenate([np.empty(0, "<u2"), *reversed(self._words)])
        return self._states.astype("<u4").tobytes() + words.tobytes()


class Decoder:
    """Words to symbols, from the first step to the last; raises ValueError for what no encoder wrote."""

    def __init__(self, table: np.ndarray, lanes: int, data: bytes) -> None:
        if (table.sum(1, dtype=np.int64) != 1 << BITS).any() or len(data) < 4 * lanes or len(data) % 2:
            raise ValueError("no table, or no words, of an encoder")
        self._frequency = table.astype(np.uint64).ravel()
        self._start = _starts(table).ravel()
        self._symbol = np.stack([np.repeat(np.arange(256, dtype=np.uint8), row) for row in table]).ravel()
        self._states = np.frombuffer(data, "<u4", lanes).astype(np.uint64)
        self._words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint64)
        self._next = 0

    def get(self, tables: np.ndarray) -> np.ndarray:
        """Decode a step of the first lanes from their tables, integers (L,): symbols, uint8 (L,)."""
        states = self._states[: len(tables)]
        slots = states & np.uint64((1 << BITS) - 1)
        symbols = self._symbol[(tables.astype(np.int64) << BITS) + slots.astype(np.int64)]
        places = tables.astype(np.int64) * 256 + symbols
        states[:] = self._frequency[places] * (states >> np.uint64(BITS)) + slots - self._start[places]
        empty = np.flatnonzero(states < LOW)
        words = self._words[self._next : self._next + len(empty)]
        if len(words) < len(empty):
            raise ValueError("words are missing")
        states[empty] = states[empty] << np.uint64(16) | words
        self._next += len(empty)
        return symbols


def _starts(table: np.ndarray) -> np.ndarray:
    """Where each symbol's slots start, uint64 (T, 256)."""
    return (table.cumsum(1, dtype=np.int64) - table).astype(np.uint64)
