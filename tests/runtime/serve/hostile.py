"""Files that are damaged, that lie, and that are far larger than they look."""

import io
import random
import struct
import zlib
from typing import Any

from PIL import Image

from tests.variants import picture


def png_of(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def good_pictures() -> list[bytes]:
    """A picture in every format that this Pillow writes and the service reads."""
    Image.init()
    found = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        if kind in Image.SAVE:
            file = io.BytesIO()
            picture(70, 90, 5).save(file, kind)
            found.append(file.getvalue())
    return found


def hostile(random_: random.Random, seeds: list[bytes]) -> bytes:
    """A damaged picture, or one that was never one."""
    data = bytearray(random_.choice(seeds))
    kind = random_.randrange(6)
    if kind == 0:
        return bytes(data[: random_.randrange(1, len(data))])
    if kind == 1:
        for _ in range(random_.randrange(1, 40)):
            data[random_.randrange(len(data))] = random_.randrange(256)
    elif kind == 2:  # a header that lies
        for place in range(random_.randrange(1, 40)):
            data[min(place + 4, len(data) - 1)] = random_.choice([0, 255, random_.randrange(256)])
    elif kind == 3:
        return random_.randbytes(random_.randrange(1, 3000))
    elif kind == 4:
        place = random_.randrange(len(data))
        data[place:place] = random_.randbytes(random_.randrange(1, 3000))
    else:
        size = random_.choice([(50000, 50000), (1, 60000), (60000, 1), (12000, 9000), (0, 5)])
        return png_of(*size, colour=random_.choice([0, 2, 3, 6]))
    return bytes(data)


def bombs() -> list[bytes]:
    """Small files of pictures that are as large as the service takes, or larger."""
    found = []
    for size, mode in (
        ((7000, 7000), "RGB"),
        ((3600, 3700), "RGBA"),
        ((5000, 5100), "RGB"),
        ((6900, 7200), "L"),
    ):
        for kind in ("PNG", "TIFF"):
            file = io.BytesIO()
            options: dict[str, Any] = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
            Image.new(mode, size).save(file, kind, **options)
            found.append(file.getvalue())
    return [*found, png_of(20000, 20000), png_of(60000, 60000)]
