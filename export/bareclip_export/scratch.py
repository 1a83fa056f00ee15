"""A folder to work in, on the disk that the result goes to."""

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskFullError


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A folder beside ``place``, from which it can be renamed there; gone when the block ends.

    Raises:
        DiskFullError: Something could not be written for want of space.
    """
    scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    scratch.mkdir(parents=True)
    try:
        yield scratch
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                "no space is left on the disk that the bundle is written to, where nothing was "
                "changed: free some, or write it to another disk"
            ) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
