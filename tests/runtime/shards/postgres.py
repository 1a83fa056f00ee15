"""A real PostgreSQL with pgvector, from the package index, for as long as a test module runs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Its address; stopped when the block ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder for sockets that containers have not
        pgserver = pytest.importorskip("pgserver")
    running = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()
