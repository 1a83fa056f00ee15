"""Files of pictures, written byte by byte: what no library would write."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def is_written(kind: str) -> bool:
    """Whether this Pillow writes a format: AVIF came with 11.3, and may be left out."""
    Image.init()
    return kind in Image.SAVE


def chunk(name: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + checksum


def png(values: NDArray[Any], colours: int, depth: int, *others: bytes, rows: int = -1) -> bytes:
    """A PNG of samples in ``depth`` bits, with other chunks before its pixels.

    ``rows``: How many of them it has, if not all.
    """
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    samples = values.reshape(height, -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in samples]
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        lines = [np.packbits(row).tobytes() for row in bits.reshape(height, -1)]
    data = zlib.compress(b"".join(b"\0" + line for line in lines[: rows % (height + 1)]))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(others)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def tiff(
    raw: bytes, size: tuple[int, int], *, order: str = "<", **tags: int | tuple[int, ...]
) -> bytes:
    """An uncompressed TIFF of one strip; tags by name, or ``t`` and their number."""
    numbers = {"bits": 258, "photometric": 262, "samples": 277, "format": 339, "orientation": 274}
    numbers |= {"highest": 281}
    entries: dict[int, int] = {
        256: size[0], 257: size[1], 258: 8, 259: 1, 262: 1, 277: 1, 278: size[1], 279: len(raw)
    }  # fmt: skip
    for name, value in tags.items():
        entries[numbers.get(name) or int(name[1:])] = int(value)  # type: ignore[arg-type]
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    block = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        block += struct.pack(order + "HHII", tag, 4, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + block + bytes(4) + raw


def exif(*others: tuple[int, int, int, bytes], orientation: int = 6, order: str = "<") -> bytes:
    """An EXIF block: its name, orientation, and other tags as (number, type, count, value)."""
    entries = [(0x112, 3, 1, struct.pack(order + "HH", orientation, 0)), *others]
    place, data = 8 + 2 + 12 * len(entries) + 4, b""
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        if len(value) > 4:
            where = struct.pack(order + "I", place + len(data))
            value, data = where, data + value
        block += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + block + bytes(4) + data


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
