"""JPEG files, looked through before they are decoded: scans, filling, and an end.

A JPEG has no checksums: one whose damage still decodes is a picture to every decoder. Markers
and segments are those of ITU-T T.81, annex B.
"""

import re
from collections.abc import Iterator

import numpy as np

# libjpeg works through the whole picture for each; encoders write about ten.
_MOST_SCANS = 100
# Segments between scans, such as tables; as many as ten a scan.
_MOST_SEGMENTS = 10 * _MOST_SCANS
# Bytes that belong to nothing: Pillow looks at each of them alone, libjpeg at all of those within
# a scan again for each block that it is given.
_MOST_FILLING = 64 * 1024
# What is missing of a download or a bad disk is zeros.
_MISSING = bytes(64)

_BLOCK = 1 << 20

_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_SCAN, _END, _START = 0xDA, 0xD9, 0xD8


def check(data: bytes) -> None:
    """Refuses what would take minutes to decode, and what was never written to its end.

    Raises:
        ValueError: It is one of these.
    """
    at, filling = 2, 0
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            return  # nothing to decode; its decoder will say so
        filling += found.end() - 2 - at
        if filling > _MOST_FILLING:
            raise ValueError("more than 64 KiB before its pixels belong to nothing")
        marker, at = data[found.end() - 1], found.end()
        if marker != _START:
            at += _length(data, at)
        if marker == _SCAN:
            return _check_scans(data, at)
        if marker == _END:
            return
    raise ValueError(f"it has more than {_MOST_SEGMENTS} segments before its pixels")


def _check_scans(data: bytes, at: int) -> None:
    end = data.find(b"\xff\xd9", at)
    # Counted in pairs.
    if data.count(b"\xff\xff", at, len(data) if end < 0 else end) > _MOST_FILLING // 2:
        raise ValueError("more than 64 KiB within its pixels belong to nothing")
    scans = 1
    for segments, (place, marker) in enumerate(_markers(data, at)):
        if place < at:
            continue
        if marker == _END:
            return
        scans += marker == _SCAN
        if scans > _MOST_SCANS:
            raise ValueError(f"it has more than {_MOST_SCANS} scans")
        if segments > _MOST_SEGMENTS:
            raise ValueError(f"it has more than {_MOST_SEGMENTS} segments")
        at = place + 2 + _length(data, place + 2)
    if data.endswith(_MISSING):
        raise ValueError("it is cut short: zeros are in place of its end")


def _markers(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Markers after a scan's beginning: not a byte 255 of its data, nor a restart."""
    for block in range(start, len(data) - 1, _BLOCK):
        values = np.frombuffer(data, np.uint8, min(_BLOCK + 1, len(data) - block), block)
        places = np.flatnonzero(values[:-1] == 255)
        after = values[places + 1]
        found = (after != 0) & (after != 255) & ((after < 0xD0) | (after > 0xD7))
        yield from zip((places[found] + block).tolist(), after[found].tolist(), strict=True)


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
