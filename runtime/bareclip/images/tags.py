"""Entries of TIFF's directories: those of TIFF files, and of the EXIF blocks of others.

Only what is asked for is read: any other entry may be as odd as it likes. The layout is that of
TIFF 6.0, section 2, and of BigTIFF.
"""

import struct
from dataclasses import dataclass

ORIENTATION = 0x0112
PHOTOMETRIC = 0x0106
BITS_PER_SAMPLE = 0x0102
MAX_SAMPLE_VALUE = 0x0119
SAMPLE_FORMAT = 0x0153

# Of a directory; real ones have dozens.
_MOST_ENTRIES = 4096
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}


@dataclass(frozen=True)
class Entry:
    """A whole number in a directory, and where it lies.

    Attributes:
        offset: Of its value.
        format: Of its value, as ``struct`` has it.
        value: The first, where there are several.
    """

    offset: int
    format: str
    value: int

    def write(self, data: bytearray, value: int) -> None:
        """Puts another value in its place."""
        struct.pack_into(self.format, data, self.offset, value)


def first_directory(data: bytes) -> dict[int, Entry]:
    """Entries of whole numbers in the first directory, as far as it can be read.

    Args:
        data: A TIFF file, or an EXIF block without its name.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    found: dict[int, Entry] = {}
    try:
        big = 43 in data[2:4]
        number, place = ("Q", 8) if big else ("I", 4)
        (start,) = struct.unpack_from(order + number, data, place)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        start += 8 if big else 2
        step, room = (20, 8) if big else (12, 4)
        for index in range(min(count, _MOST_ENTRIES)):
            at = start + index * step
            tag, kind, values = struct.unpack_from(f"{order}HH{number}", data, at)
            if kind not in _WHOLE_NUMBERS or not values:
                continue
            form = order + _WHOLE_NUMBERS[kind]
            at += step - room
            if struct.calcsize(form) * values > room:
                (at,) = struct.unpack_from(order + number, data, at)
            if at + struct.calcsize(form) <= len(data):
                found.setdefault(tag, Entry(at, form, struct.unpack_from(form, data, at)[0]))
    except (struct.error, OverflowError):  # it ends before it says it does
        pass
    return found


def exif_orientation(block: bytes) -> int | None:
    """Orientation, 1 to 8, in an EXIF block; None where it has none."""
    block = block.removeprefix(b"Exif\0\0")
    entry = first_directory(block).get(ORIENTATION)
    return entry.value if entry is not None and 1 <= entry.value <= 8 else None
