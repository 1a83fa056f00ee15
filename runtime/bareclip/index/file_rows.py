"""The files of a store: what a sync knows of them, and writes."""

import sqlite3
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .database import Damaged
from .item_rows import checked_name
from .scan import FoundFile
from .vector_rows import VectorRows

Status = Literal["embedded", "failed", "unreadable", "other"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the store knows of a file."""

    id: int
    key: bytes
    path: bytes
    mounted: bool
    size: int
    modified_ns: int
    content: bytes | None
    status: Status
    reason: str | None


@dataclass(frozen=True)
class FileRow:
    """A file as it goes into the store; see the columns of ``items``."""

    key: bytes
    path: bytes
    mounted: bool
    size: int
    modified_ns: int
    content: bytes | None
    width: int | None
    height: int | None
    status: Status
    reason: str | None
    metadata: str | None


class FileRows:
    """The files of an open store; made by ``Store.files``."""

    def __init__(self, db: sqlite3.Connection, vectors: VectorRows, damaged: Damaged) -> None:
        self._db = db
        self._vectors = vectors
        self._damaged = damaged

    def known(self) -> list[KnownFile]:
        """All of them, also those without a vector, by id."""
        rows = self._db.execute(
            "SELECT id, key, path, mounted, size, modified_ns, content, status, reason"
            " FROM items WHERE kind = 'file' ORDER BY id"
        )
        files = [KnownFile(*row) for row in rows]
        for file in files:
            checked_name(file.key, self._damaged)
            checked_name(file.path, self._damaged)
        return files

    def put(self, row: FileRow, vector: NDArray[np.float32] | None) -> None:
        """Adds a file, under a new id also where it is known."""
        self._db.execute("DELETE FROM items WHERE kind = 'file' AND key = ?", (row.key,))
        columns = asdict(row)
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        cursor = self._db.execute(
            f"INSERT INTO items (kind, {names}) VALUES ('file', {places})", (*columns.values(),)
        )
        if vector is not None:
            self._vectors.put(cursor.lastrowid, vector)

    def move(self, item: int, file: FoundFile) -> None:
        """Gives an item the place and times of ``file``, whose content is the same."""
        self._db.execute(
            "DELETE FROM items WHERE kind = 'file' AND key = ? AND id != ?", (file.key, item)
        )
        self._db.execute(
            "UPDATE items SET key = ?, path = ?, mounted = ?, size = ?, modified_ns = ?"
            " WHERE id = ?",
            (file.key, file.path, file.mounted, file.size, file.modified_ns, item),
        )

    def with_content(
        self, content: bytes
    ) -> tuple[int, int, str | None, NDArray[np.float32]] | None:
        """Width, height, metadata and vector of a file with that content."""
        row = self._db.execute(
            "SELECT width, height, metadata, vector FROM items JOIN vectors ON item = id"
            " WHERE content = ? LIMIT 1",
            (content,),
        ).fetchone()
        return None if row is None else (*row[:3], self._vectors.checked([row[3]])[0])

    def id_of(self, key: bytes) -> int | None:
        """The id of the file with that key; None where there is none."""
        row = self._db.execute(
            "SELECT id FROM items WHERE kind = 'file' AND key = ?", (key,)
        ).fetchone()
        return None if row is None else int(row[0])
