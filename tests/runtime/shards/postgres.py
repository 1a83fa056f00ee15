"""A real PostgreSQL with pgvector, from the package index, for as long as a test module runs."""

import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def server() -> Iterator[str]:
    """Its address; stopped when the block ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder for sockets that containers have not
        pgserver = pytest.importorskip("pgserver")
    # Not pytest's own folder, which is its user's alone: root has another user run PostgreSQL.
    with tempfile.TemporaryDirectory(prefix="bareclip-pg-", ignore_cleanup_errors=True) as folder:
        for needed in (Path(pgserver.__file__), Path(folder)):
            if os.geteuid() == 0 and not _can_be_reached(needed.parent):
                pytest.skip(f"PostgreSQL does not run as root, and {needed.parent} is root's alone")
        running = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()


def _can_be_reached(folder: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))
