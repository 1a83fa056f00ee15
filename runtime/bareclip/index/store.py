"""The store: one SQLite file that holds items, their vectors, and what made them.

SQL is here and nowhere else. The file is in WAL mode, so that readers work while one
process writes, and every commit is synced: after a kill or a power cut it holds what was
committed. An item's vector never changes; what changes gets a new id, and ids are never
used twice. So an id that a derived file knows still means the same vector, unless a backup
has been restored: it hands out the same ids again. So each state has a random token, and the
store keeps those of the states it has been in.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..scoring.vectors import Floats
from .database import check_format, create, explained, only_writer
from .fingerprint import Fingerprint
from .scan import FoundFile

Status = Literal["embedded", "failed", "unreadable", "other"]
# Of a state that was committed before there were tokens.
NO_TOKEN = "0" * 16
_CHUNK = 4096


@dataclass(frozen=True)
class State:
    """Which vectors a store holds: a derived file of another state is stale.

    Attributes:
        store: Random, made with the store, so that a new one at the same path is another.
        generation: Counts the vectors that were ever made or removed.
        token: Random, made with the generation, so that the same one of a restored backup
            is another.
        width: Of a vector.
    """

    store: str
    generation: int
    token: str
    width: int


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


class Store:
    """An open store; made by ``Store.open``.

    Attributes:
        path: Of the SQLite file.
        fingerprint: What made its vectors.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, fingerprint: Fingerprint) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._db = db

    @classmethod
    def open(cls, path: Path, new: Fingerprint | None) -> "Store":
        """Opens a store, or makes one of vectors that ``new`` describes.

        Raises:
            StoreError: It cannot be read or made, is no store or of another format, or is
                not there and ``new`` is None.
        """
        if not path.exists() and new is None:
            raise StoreError(
                f"there is no index at {path}; make one: "
                f"bareclip index FOLDER --db {path} --bundle BUNDLE"
            )
        if not path.parent.is_dir():
            raise StoreError(f"cannot make {path}: {path.parent} is not a folder")
        with explained(path):
            if new is not None and not path.exists():
                create(path, json.dumps(asdict(new)))
            # Threads are kept apart by the index, whose lock covers more than a statement.
            db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            try:
                check_format(path, db)
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("PRAGMA synchronous = FULL")
                [made_by] = db.execute(
                    "SELECT value FROM meta WHERE name = 'fingerprint'"
                ).fetchone()
            except BaseException:
                db.close()
                raise
        return cls(path, db, Fingerprint(**json.loads(made_by)))

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other writers out, for longer than a transaction.

        Raises:
            StoreError: Another process, or another ``Index``, is writing.
        """
        with explained(self.path), only_writer(self.path):
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written inside, or nothing."""
        with explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute(
                    "INSERT OR IGNORE INTO meta"
                    " SELECT 'token ' || value, ? FROM meta WHERE name = 'generation'",
                    (secrets.token_hex(8),),
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the store, whatever is written meanwhile."""
        with explained(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    @property
    def bundle(self) -> str | None:
        """The folder of the bundle that was last used with the store."""
        with explained(self.path):
            folder = self._meta("bundle")
        return None if folder is None else os.fsdecode(folder)

    def remember_bundle(self, folder: Path) -> None:
        if self.bundle != str(folder):
            with self.transaction():
                self._db.execute(
                    "UPDATE meta SET value = ? WHERE name = 'bundle'", (os.fsencode(folder),)
                )

    def state(self) -> State:
        store, generation = self._meta("store"), self._meta("generation")
        token = self._meta(f"token {generation}") or NO_TOKEN
        return State(store, generation, token, self.fingerprint.width)

    def has_been(self, state: State) -> bool:
        """Whether that was once this store's state: its ids still mean the same vectors."""
        return bool(self._meta(f"token {state.generation}") == state.token)

    def _meta(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def files(self) -> list[KnownFile]:
        rows = self._db.execute(
            "SELECT id, key, path, mounted, size, modified_ns, content, status"
            " FROM items WHERE kind = 'file' ORDER BY id"
        )
        return [KnownFile(*row) for row in rows]

    def put_file(self, row: FileRow, vector: NDArray[np.float32] | None) -> None:
        """Adds a file, under a new id also where it is known."""
        self._db.execute("DELETE FROM items WHERE kind = 'file' AND key = ?", (row.key,))
        columns = asdict(row)
        names, places = ", ".join(columns), ", ".join("?" * len(columns))
        cursor = self._db.execute(
            f"INSERT INTO items (kind, {names}) VALUES ('file', {places})", (*columns.values(),)
        )
        if vector is not None:
            self._put_vector(cursor.lastrowid, vector)

    def move_file(self, item: int, file: FoundFile) -> None:
        """Gives an item the place and times of ``file``, whose content is the same."""
        self._db.execute(
            "DELETE FROM items WHERE kind = 'file' AND key = ? AND id != ?", (file.key, item)
        )
        self._db.execute(
            "UPDATE items SET key = ?, path = ?, mounted = ?, size = ?, modified_ns = ?"
            " WHERE id = ?",
            (file.key, file.path, file.mounted, file.size, file.modified_ns, item),
        )

    def with_content(self, content: bytes) -> tuple[int, int, NDArray[np.float32]] | None:
        """Width, height and vector of a file with that content."""
        row = self._db.execute(
            "SELECT width, height, vector FROM items JOIN vectors ON item = id"
            " WHERE content = ? LIMIT 1",
            (content,),
        ).fetchone()
        return None if row is None else (row[0], row[1], np.frombuffer(row[2], "<f4"))

    def remove(self, items: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM items WHERE id = ?", [(item,) for item in items])

    def add(self, name: bytes, vector: Floats, metadata: str | None) -> None:
        """Adds a vector from elsewhere, in the place of one of that name."""
        self._db.execute("DELETE FROM items WHERE kind = 'added' AND key = ?", (name,))
        cursor = self._db.execute(
            "INSERT INTO items (kind, key, path, status, metadata)"
            " VALUES ('added', ?, ?, 'embedded', ?)",
            (name, name, metadata),
        )
        self._put_vector(cursor.lastrowid, vector)

    def _put_vector(self, item: int | None, vector: Floats) -> None:
        self._db.execute(
            "INSERT INTO vectors VALUES (?, ?)", (item, vector.astype("<f4").tobytes())
        )

    def vector_ids(self) -> NDArray[np.int64]:
        """Ids of the items with a vector, ascending."""
        rows = self._db.execute("SELECT item FROM vectors ORDER BY item")
        return np.fromiter((row[0] for row in rows), np.int64)

    def vectors(self, first: int) -> Iterator[NDArray[np.float32]]:
        """Vectors of ids from ``first`` on, ascending, some thousand rows at a time."""
        cursor = self._db.execute(
            "SELECT vector FROM vectors WHERE item >= ? ORDER BY item", (first,)
        )
        while rows := cursor.fetchmany(_CHUNK):
            data = b"".join(row[0] for row in rows)
            yield np.frombuffer(data, "<f4").reshape(len(rows), self.fingerprint.width)

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

    def id_of_file(self, key: bytes) -> int | None:
        row = self._db.execute(
            "SELECT id FROM items WHERE kind = 'file' AND key = ?", (key,)
        ).fetchone()
        return None if row is None else int(row[0])

    def describe(self, item: int) -> tuple[bytes, dict[str, Any] | None]:
        """An item's path or id, and its metadata."""
        path, metadata = self._db.execute(
            "SELECT path, metadata FROM items WHERE id = ?", (item,)
        ).fetchone()
        return path, None if metadata is None else json.loads(metadata)

    def items(self) -> Iterator[tuple[int, bytes, str | None]]:
        """Id, path or name, and metadata of the items with a vector, by id."""
        return self._db.execute(
            "SELECT id, path, metadata FROM items WHERE status = 'embedded' ORDER BY id"
        )

    def counts(self) -> dict[tuple[str, Status], int]:
        """How many items of a kind have a status."""
        rows = self._db.execute("SELECT kind, status, count(*) FROM items GROUP BY kind, status")
        return {(kind, status): count for kind, status, count in rows}

    def failures(self) -> Sequence[tuple[bytes, str]]:
        """Paths and reasons of the files that could not be embedded."""
        return self._db.execute(
            "SELECT path, reason FROM items WHERE status IN ('failed', 'unreadable') ORDER BY path"
        ).fetchall()
