"""PNG files, but for what no picture needs: chunks are checked, and long texts left out.

Pillow refuses a file for its texts, for a large profile, and for a checksum of neither; it does
not look at the checksums of the pixels, and takes a stream that ends early for a whole one.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .inflating import inflated

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Without these, or with others in their place, it is not the picture.
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT"}
# Pillow refuses what is more when it is uncompressed.
_MOST_UNCOMPRESSED = 1024 * 1024
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
# Texts that say how a picture lies: XMP, and EXIF as ImageMagick writes it.
_ORIENTING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
# Offset and step of Adam7's passes, across and down.
_PASSES = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2)]
_PASSES += [(0, 1, 1, 2)]


@dataclass(frozen=True)
class Png:
    """A PNG file that Pillow can be given.

    Attributes:
        data: The file.
        size: Width and height.
        depth: Bits of a sample.
        colours: PNG's type: 0 grey, 2 RGB, 3 palette; 4 and 6 have alpha.
        key: The colour that is transparent, a number or three, in the file's own depth.
    """

    data: bytes
    size: tuple[int, int]
    depth: int
    colours: int
    interlaced: bool
    key: tuple[int, ...] | None

    def is_whole(self) -> bool:
        """Whether there are as many bytes of pixels as its size asks for."""
        width, height = self.size
        bits = self.depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[self.colours]
        passes = _PASSES if self.interlaced else [(0, 1, 0, 1)]
        wanted = 0
        for left, across, top, down in passes:
            columns, rows = -(-(width - left) // across), -(-(height - top) // down)
            if columns > 0 and rows > 0:
                wanted += rows * (1 + (columns * bits + 7) // 8)
        return inflated(_pixels(self.data), wanted) >= wanted


def read(data: bytes) -> Png:
    """Checks a file's chunks and leaves out those that no picture needs.

    Raises:
        ValueError: A chunk that is needed is damaged or cut short.
    """
    kept, header, key = [SIGNATURE], b"", b""
    for name, start, end in _chunks(data):
        body = data[start + 8 : end - 4]
        intact = data[end - 4 : end] == struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
        if name in _NEEDED and not intact:
            cut = end > len(data)
            raise ValueError("it is cut short" if cut else f"its {name.decode()} is damaged")
        if name not in _NEEDED and not (intact and _is_of_use(name, body)):
            continue
        header = body if name == b"IHDR" else header
        key = body if name == b"tRNS" else key
        kept.append(data[start:end])
    if len(header) != 13:
        raise ValueError("it does not begin as a PNG does")
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", header)
    values = {0: ">H", 2: ">HHH"}.get(colours)
    found = None
    if values is not None and len(key) >= struct.calcsize(values):
        # More bits than the file has are not looked at.
        found = tuple(value & (1 << depth) - 1 for value in struct.unpack_from(values, key))
    kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    return Png(b"".join(kept), (width, height), depth, colours, bool(interlaced), found)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk but the last; the end may be beyond the file's."""
    start = len(SIGNATURE)
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        if name == b"IEND":
            return
        yield name, start, start + length + 12
        start += length + 12


def _is_of_use(name: bytes, body: bytes) -> bool:
    if name in (b"eXIf", b"sRGB"):
        return True
    if name == b"iCCP":
        _, _, rest = body.partition(b"\0")
        return rest[:1] == b"\0" and _is_small(rest[1:])
    if name not in _TEXTS or not body.startswith(_ORIENTING) or len(body) > _MOST_UNCOMPRESSED:
        return False
    if name == b"tEXt":
        return True
    # Compressed, it may be far longer: its stream is at the end, whatever lies before it.
    at = body.find(b"\x78", body.index(b"\0"))
    return at < 0 or _is_small(body[at:])


def _is_small(stream: bytes) -> bool:
    try:
        return inflated([stream], _MOST_UNCOMPRESSED + 1) <= _MOST_UNCOMPRESSED
    except zlib.error:  # what Pillow does without
        return True


def _pixels(data: bytes) -> Iterator[bytes]:
    for name, start, end in _chunks(data):
        if name == b"IDAT":
            yield data[start + 8 : end - 4]
