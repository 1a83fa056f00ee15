"""Counting what a compressed stream holds, without holding it."""

import zlib
from collections.abc import Iterable

_STEP = 1 << 20


def inflated(parts: Iterable[bytes | memoryview], most: int) -> int:
    """Bytes that a zlib stream holds, as far as it goes, counted until there are ``most``.

    Args:
        parts: The stream, in pieces.
        most: Where counting stops.

    Raises:
        zlib.error: It is damaged; its checksum is wrong, where it is read to its end.
    """
    stream, count = zlib.decompressobj(), 0
    for part in parts:
        rest = bytes(part)
        while rest and count < most and not stream.eof:
            count += len(stream.decompress(rest, _STEP))
            rest = stream.unconsumed_tail
    return count
