"""Files: written whole or not at all, read by lines; their names as they can be shown."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import TextError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when the block ends without error.

    Until then, and for ever after an error or a full disk, what was there stays. A process
    that is killed meanwhile leaves a file beside it that ends in ``.part``.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            # Else a power cut after the rename could leave the name and not the bytes.
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file from elsewhere: a regular one, and no more than ``most``.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe or a device, which might never end, or too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > most:
        raise ValueError(f"it has {status.st_size:,} bytes, more than {most:,}")
    with path.open("rb") as file:
        return file.read(most)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, stripped; empty ones do not count.

    Raises:
        TextError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {path}: {error}; it must be UTF-8 text") from error
    return [line.strip() for line in lines if line.strip()]


def printable(name: str) -> str:
    """A path or an id as it can be shown: no control characters, no bytes that are not UTF-8."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
