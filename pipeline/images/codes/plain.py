"""Bytes squeezed by LZMA, and no more of them taken back than asked for."""

import lzma

MOST_BACK = 1 << 26  # bytes that LZMA looks back, as its preset 9


def squeezed(data: bytes) -> bytes:
    """The data in fewer bytes, if there is any order in them."""
    back = min(max(len(data), 1 << 12), MOST_BACK)
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": back}])


def restored(data: bytes, size: int) -> bytes:
    """The `size` bytes that `squeezed` took; raises ValueError or LZMAError for what it never wrote."""
    plain = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * MOST_BACK).decompress(data, max_length=size)
    if len(plain) != size:
        raise ValueError(f"{len(plain)} bytes, not {size}")
    return plain
