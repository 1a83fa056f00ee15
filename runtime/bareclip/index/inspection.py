"""One file of a folder: its content's checksum, its dimensions, its pixels."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Set
from dataclasses import dataclass
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

from ..encoders import ImageEncoder
from ..encoders.fingerprint import Fingerprint
from ..images.dates import taken
from ..images.inputs import image_endings, is_disguised
from ..images.limits import MAX_FILE_BYTES
from ..images.opening import open_bytes
from ..images.pixels import opened_pixels, reason
from .file_rows import FileRow, Status
from .scan import NO_FILE, FoundFile

# Decoders raise OSError without a number, or seek where a hostile file sends them; others
# are of the disk, and may be gone the next time.
_BYTES_AT_FAULT = {None, errno.EINVAL, errno.EOVERFLOW}


@dataclass(frozen=True)
class Inspected:
    """A file that was looked into.

    Attributes:
        file: Which it is.
        row: What the store is to hold; without width, height and metadata where the content is
            known.
    """

    file: FoundFile
    row: FileRow


Found = tuple[Inspected, NDArray[np.uint8] | None]


def inspect_file(
    file: FoundFile, encoder: ImageEncoder, made_by: Fingerprint, known: Set[bytes]
) -> Found:
    """Looks into a file. Whatever it holds, this returns.

    Args:
        file: What was found.
        encoder: Says what pixels it takes, and how many may be decoded.
        made_by: Says how pictures are read and decoded.
        known: Contents whose vector the store has: those are not decoded.

    Returns:
        What was found, and its pixels (size, size, 3) uint8; None if it is no picture, or its
        content is known.
    """
    if file.problem is not None:
        return _inspected(file, "unreadable", file.problem)
    try:
        with _opened(file.path) as opened:
            return _look_into(file, opened, encoder, made_by, known)
    except OSError as error:
        status: Status = "failed" if error.errno in _BYTES_AT_FAULT else "unreadable"
        return _inspected(file, status, error.strerror or reason(error))
    except Exception as error:  # Decoders raise nearly anything on hostile files.
        return _inspected(file, "failed", reason(error))


def _opened(path: bytes) -> BufferedReader:
    """Opens a file; a pipe that has come into its place since it was found is not waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENXIO, NO_FILE)
    return file


def _look_into(
    file: FoundFile,
    opened: BufferedReader,
    encoder: ImageEncoder,
    made_by: Fingerprint,
    known: Set[bytes],
) -> Found:
    ending = os.path.splitext(os.fsdecode(file.path))[1].lower()  # noqa: PTH122
    if ending not in image_endings() and not is_disguised(opened):
        return _inspected(file, "other", "it is no picture by its name and first bytes")
    if file.size == 0:
        return _inspected(file, "failed", "it is empty")
    if file.size > MAX_FILE_BYTES:
        limit = f"it has {file.size:,} bytes, more than {MAX_FILE_BYTES:,}"
        return _inspected(file, "failed", limit)
    # Read once: what the checksum is of is what is decoded.
    data = opened.read(MAX_FILE_BYTES + 1)
    content = hashlib.sha256(data).digest()
    if content in known:
        return _inspected(file, "embedded", None, content)
    picture = open_bytes(data, encoder.max_pixels)
    dimensions = picture.image.size
    scaled = made_by.decoding == "scaled"
    pixels = opened_pixels(
        picture, encoder.recipe, made_by.reading, scaled, max_pixels=encoder.max_pixels
    )
    # A PNG may say it behind its pixels.
    date = taken(picture.image)
    return _inspected(file, "embedded", None, content, dimensions, pixels, date)


def _inspected(
    file: FoundFile,
    status: Status,
    why: str | None,
    content: bytes | None = None,
    dimensions: tuple[int, int] | None = None,
    pixels: NDArray[np.uint8] | None = None,
    date: str | None = None,
) -> Found:
    width, height = dimensions or (None, None)
    row = FileRow(
        key=file.key,
        path=file.path,
        mounted=file.mounted,
        size=file.size,
        modified_ns=file.modified_ns,
        content=content,
        width=width,
        height=height,
        status=status,
        reason=why,
        metadata=None if date is None else json.dumps({"taken": date}),
    )
    return Inspected(file, row), pixels
