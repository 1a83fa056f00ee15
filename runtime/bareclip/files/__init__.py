"""Files: written whole or not at all, read by lines; their names as they can be shown."""

import hashlib
import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import TextError

# Formatting characters, as those that turn text around, which Persian and emoji are written with.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


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


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A folder beside ``place``, from which what is in it can be renamed there.

    Gone when the block ends. A process that is killed meanwhile leaves it, hidden, with a name
    that ends in ``.partial``.
    """
    scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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


def file_sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_own(path: Path) -> bool:
    """Whether a file or a folder is this user's alone: nobody else may write to it.

    Raises:
        OSError: It is not there.
    """
    status = path.stat()
    if not hasattr(os, "geteuid"):  # Windows: a user's folders are the user's
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def is_there(path: Path) -> bool:
    """Whether there is something of that name.

    ``Path.exists`` also says no, from Python 3.14 on, where that cannot be known.

    Raises:
        OSError: It may not be looked at, or cannot be a name.
        ValueError: It holds a zero byte.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, stripped; empty ones do not count.

    Raises:
        TextError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TextError(f"cannot read {path}: {error}; it must be UTF-8 text") from error
    return text_lines(data, str(path))


def text_lines(data: bytes, name: str) -> list[str]:
    """As ``read_lines``, of what was read; ``name`` is for the error."""
    try:
        # As text files are read, and not splitlines(), which also splits within a line.
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise TextError(f"cannot read {name}: {error}; it must be UTF-8 text") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def printable(text: str) -> str:
    """A text as a terminal can show it, whoever wrote it.

    Control characters, which escape sequences are made of, what turns the direction of
    writing, and bytes that are not UTF-8 are replaced; spaces of all kinds and joined emoji
    stay.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(letter: str) -> str:
    unseen = unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "\N{REPLACEMENT CHARACTER}" if unseen and letter not in _JOINERS else letter
