"""The items of a store, files and what was added: their names, sizes, dates and metadata."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scoring.vectors import Floats
from .database import Damaged
from .vector_rows import VectorRows

_MOST = 2**63 - 1


class ItemRows:
    """The items of an open store; made by ``Store.items``."""

    def __init__(self, db: sqlite3.Connection, vectors: VectorRows, damaged: Damaged) -> None:
        self._db = db
        self._vectors = vectors
        self._damaged = damaged

    def add(self, name: bytes, vector: Floats, metadata: str | None) -> None:
        """Adds a vector from elsewhere, in the place of one of that name."""
        self._db.execute("DELETE FROM items WHERE kind = 'added' AND key = ?", (name,))
        cursor = self._db.execute(
            "INSERT INTO items (kind, key, path, status, metadata)"
            " VALUES ('added', ?, ?, 'embedded', ?)",
            (name, name, metadata),
        )
        self._vectors.put(cursor.lastrowid, vector)

    def remove(self, items: Iterable[int]) -> None:
        """Removes items, with their vectors and tags."""
        self._db.executemany("DELETE FROM items WHERE id = ?", [(item,) for item in items])

    def ids_under(self, path: bytes, resolved: bytes, name: bytes) -> NDArray[np.int64]:
        """Ids of files and of added items that begin so.

        Args:
            path: Of the path that files were found at.
            resolved: The same with links resolved: of that path, or of the key.
            name: Of the names of added items.
        """
        rows = self._db.execute(
            "WITH given (path, resolved, name) AS (VALUES (?, ?, ?))"
            " SELECT id FROM items, given WHERE status = 'embedded' AND ("
            " (kind = 'file' AND (substr(items.path, 1, length(given.path)) = given.path"
            "  OR substr(items.path, 1, length(resolved)) = resolved"
            "  OR substr(key, 1, length(resolved)) = resolved))"
            " OR (kind = 'added' AND substr(items.path, 1, length(name)) = name))",
            (path, resolved, name),
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def ids_dated(self, after: str | None, before: str | None) -> NDArray[np.int64]:
        """Ids of what was taken, or else modified, at ``after`` or later, and before ``before``.

        Args:
            after, before: As ISO 8601 has dates, or the beginning of one; None for any.
        """
        # Text in that form sorts as time does, and the beginning of a date before the date.
        rows = self._db.execute(
            "WITH dated AS (SELECT id, coalesce("
            " CASE WHEN json_valid(metadata) THEN"
            "  CASE json_type(metadata, '$.taken') WHEN 'text' THEN"
            "   json_extract(metadata, '$.taken') END END,"
            " strftime('%Y-%m-%dT%H:%M:%S', modified_ns / 1000000000, 'unixepoch', 'localtime'))"
            " AS date FROM items WHERE status = 'embedded')"
            " SELECT id FROM dated WHERE date >= ? AND (? IS NULL OR date < ?)",
            (after or "", before, before),
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def find(self, name: bytes) -> tuple[int, NDArray[np.float32]] | None:
        """Id and vector of what was added under a name, or of the file at a path."""
        path = name if b"\0" in name else os.path.realpath(name)
        for kind, key in (("added", name), ("file", name), ("file", path)):
            row = self._db.execute(
                "SELECT id, vector FROM items JOIN vectors ON item = id WHERE kind = ? AND key = ?",
                (kind, key),
            ).fetchone()
            if row is not None:
                return row[0], self._vectors.checked([row[1]])[0]
        return None

    def describe(self, item: int) -> tuple[bytes, dict[str, Any] | None, str | None]:
        """An item's path or id, its metadata, and the SHA-256 of its file."""
        row = self._db.execute(
            "SELECT path, metadata, content FROM items WHERE id = ?", (item,)
        ).fetchone()
        if row is None:
            raise self._damaged(f"it has a vector of item {item}, and no such item")
        path, metadata, content = row
        known = content.hex() if isinstance(content, bytes) else None
        return checked_name(path, self._damaged), self._object(metadata), known

    def sizes(self) -> NDArray[np.int64]:
        """Pixels and bytes of the items with a vector, by id: (N, 2); 0 where it does not say."""
        rows = self._db.execute(
            "SELECT width, height, size FROM vectors LEFT JOIN items ON id = item ORDER BY item"
        )
        # Three numbers of 64 bits, whose product may have more: only their order is asked for.
        pairs = (
            (min(_count(width) * _count(height), _MOST), _count(size))
            for width, height, size in rows
        )
        return np.fromiter(pairs, np.dtype((np.int64, 2)))

    def file(
        self, item: int
    ) -> tuple[bytes, int | None, int | None, int | None, str | None] | None:
        """Path or name, width, height, bytes and SHA-256 of an item; None if it is gone."""
        row = self._db.execute(
            "SELECT path, width, height, size, content FROM items WHERE id = ?", (item,)
        ).fetchone()
        if row is None:
            return None
        path, *numbers, content = row
        width, height, size = (_count(number) or None for number in numbers)
        known = content.hex() if isinstance(content, bytes) else None
        return checked_name(path, self._damaged), width, height, size, known

    def each(self) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
        """Id, path or name, and metadata of the items with a vector, by id."""
        rows = self._db.execute(
            "SELECT item, path, metadata FROM vectors LEFT JOIN items ON id = item ORDER BY item"
        )
        return (
            (item, checked_name(path, self._damaged), self._object(data))
            for item, path, data in rows
        )

    def counts(self) -> dict[tuple[str, str], int]:
        """How many items of a kind have a status."""
        rows = self._db.execute("SELECT kind, status, count(*) FROM items GROUP BY kind, status")
        return {(kind, status): count for kind, status, count in rows}

    def failures(self) -> list[tuple[bytes, str]]:
        """Paths and reasons of the files that could not be embedded."""
        rows = self._db.execute(
            "SELECT path, reason FROM items WHERE status IN ('failed', 'unreadable') ORDER BY path"
        )
        return [(checked_name(path, self._damaged), str(reason)) for path, reason in rows]

    def _object(self, text: object) -> dict[str, Any] | None:
        """An object of the JSON that an item has; None where it has none."""
        if text is None:
            return None
        try:
            found = json.loads(text)  # type: ignore[arg-type]
        except (TypeError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._damaged("metadata in it is no JSON object")
        return found


def checked_name(name: object, damaged: Damaged) -> bytes:
    """A path or an id, as the store has it.

    Raises:
        StoreError: It is none.
    """
    if not isinstance(name, bytes) or not name:
        raise damaged(f"an item in it has no name ({name!r:.40})")
    return name


def _count(given: object) -> int:
    return given if isinstance(given, int) and given > 0 else 0
