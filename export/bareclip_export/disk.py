"""A disk that is full, in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DiskFullError


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Names the want of space, where a bundle or a part of it is written in the block.

    Raises:
        DiskFullError: Something could not be written for want of space.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                "no space is left on the disk that the bundle is written to, where nothing was "
                "changed: free some, or write it to another disk"
            ) from error
        raise
