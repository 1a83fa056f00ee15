"""Pictures that are files of their own, local or remote."""

import os
import stat

from ..errors import ImageError
from ..images.inputs import read_file
from ..images.limits import MAX_FILE_BYTES
from .places import Found, Place, Version

CHANGED = "it has changed since the plan was made"


def fetch(place: Place, planned: Version | None) -> bytes:
    """The bytes of a picture, if it is the one that was planned.

    Args:
        place: Where it lies.
        planned: None where nothing was planned of it.

    Raises:
        ImageError: It is not there, has changed, or cannot be read.
        ValueError: It is too large.
    """
    if not place.local:
        return _fetch_remote(place, planned)
    # A pipe that has come into its place is not waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(place.uri, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("it is no regular file")
            now = Found(place.uri, status.st_size, status.st_mtime_ns).version
            if planned is not None and planned != now:
                raise ImageError(CHANGED)
            return read_file(file)
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error


def _fetch_remote(place: Place, planned: Version | None) -> bytes:
    info = place.info()
    if info is None:
        raise ImageError("No such file or directory")
    if planned is not None and planned != info.version:
        raise ImageError(CHANGED)
    if info.size > MAX_FILE_BYTES:
        raise ValueError(f"it has {info.size:,} bytes, more than {MAX_FILE_BYTES:,}")
    return place.read()
