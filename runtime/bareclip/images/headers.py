"""Sizes of pictures from the headers of files whose decoders allocate before they can be asked."""

import math
import re
import struct
from collections.abc import Iterator

Size = tuple[int, int]

_ICON = b"\0\0\1\0"
_PNG = b"\x89PNG\r\n\x1a\n"


def sizes(data: bytes) -> list[Size]:
    """Widths and heights that a WebP, AVIF, HEIF or ICO file says it has; of others, none."""
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return list(_webp(data))
        if data[4:8] == b"ftyp":
            return list(_isobmff(data))
        if data[:4] == _ICON:
            return list(_ico(data))
    except struct.error:  # cut short; its decoder will say so
        pass
    return []


def _webp(data: bytes) -> Iterator[Size]:
    """The canvas, and the first frame; of RFC 9649, sections 2.5 to 2.7."""
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        yield width & 0x3FFF, height & 0x3FFF
    elif data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif data[12:16] == b"VP8X":
        yield (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )


def _isobmff(data: bytes) -> Iterator[Size]:
    """Every picture of a file, its tiles too: ISO/IEC 23008-12, 6.5.3."""
    start = 0
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        if name == b"meta":
            for found in re.finditer(b"ispe", data[start : start + length]):
                yield struct.unpack_from(">II", data, start + found.end() + 4)
        if length < 8:  # to the end of the file, or longer than 4 GB
            return
        start += length


def _ico(data: bytes) -> Iterator[Size]:
    """Of pictures within: the directory's own sizes are at most 256 and not believed."""
    for at in _icons(data):
        if data.startswith(_PNG, at):
            yield struct.unpack_from(">II", data, at + 16)
        elif at + 12 <= len(data):
            width, height = struct.unpack_from("<ii", data, at + 4)
            yield abs(width), abs(height)


def png_of_icon(data: bytes) -> bytes | None:
    """The PNG file that is the largest picture of an ICO file; None where it is no PNG."""
    if data[:4] != _ICON:
        return None
    try:
        first = next(_icons(data), 0)
    except struct.error:
        return None
    return data[first:] if data.startswith(_PNG, first) else None


def _icons(data: bytes) -> Iterator[int]:
    """Where the pictures of an icon begin, the largest and, of these, the fewest bits first."""
    (count,) = struct.unpack_from("<H", data, 4)
    found = []
    for index in range(count):
        wide, high, colours, _, _, bits, _, at = struct.unpack_from(
            "<BBBBHHII", data, 6 + 16 * index
        )
        depth = bits or (colours and math.ceil(math.log2(colours))) or 256
        found.append((-(wide or 256) * (high or 256), depth, index, at))
    return (at for *_, at in sorted(found))
