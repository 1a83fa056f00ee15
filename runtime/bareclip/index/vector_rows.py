"""The vectors of a store, one for each item that has one."""

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..scoring.vectors import Floats
from .database import Damaged

_CHUNK = 4096
# How far from 1 a vector's length may be that some precision of a tower made.
_LENGTHS = 0.01


class VectorRows:
    """The vectors of an open store; made by ``Store.vectors``."""

    def __init__(self, db: sqlite3.Connection, width: int, damaged: Damaged) -> None:
        self._db = db
        self._width = width
        self._damaged = damaged

    def ids(self, first: int = -(2**63)) -> NDArray[np.int64]:
        """Ids of the items with a vector from ``first`` on, ascending."""
        rows = self._db.execute("SELECT item FROM vectors WHERE item >= ? ORDER BY item", (first,))
        ids = np.fromiter((row[0] for row in rows), np.int64)
        if (ids[1:] <= ids[:-1]).any():
            raise self._damaged("its vectors are in no order")
        return ids

    def chunks(self, first: int) -> Iterator[NDArray[np.float32]]:
        """Vectors of ids from ``first`` on, ascending, some thousand rows at a time."""
        cursor = self._db.execute(
            "SELECT vector FROM vectors WHERE item >= ? ORDER BY item", (first,)
        )
        while rows := cursor.fetchmany(_CHUNK):
            yield self.checked([row[0] for row in rows])

    def put(self, item: int | None, vector: Floats) -> None:
        """Gives an item its vector."""
        if not _are_unit(vector[None]):
            raise StoreError(
                "the model gave a vector that is not of length 1 (NaN, or zero), so nothing more "
                "is indexed; export its bundle again"
            )
        self._db.execute(
            "INSERT INTO vectors VALUES (?, ?)", (item, vector.astype("<f4").tobytes())
        )

    def checked(self, blobs: list[object]) -> NDArray[np.float32]:
        """The vectors in blobs, (N, D), which are of length 1.

        Raises:
            StoreError: They are not.
        """
        width = self._width
        given = [blob for blob in blobs if isinstance(blob, bytes) and len(blob) == 4 * width]
        if len(given) == len(blobs):
            rows = np.frombuffer(b"".join(given), "<f4").reshape(len(blobs), width)
            if _are_unit(rows):
                return rows
        raise self._damaged(f"a vector in it is not {width} numbers of length 1")


def _are_unit(rows: Floats) -> bool:
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return bool((np.abs(lengths - 1) < _LENGTHS).all())
