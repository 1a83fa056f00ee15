"""The store: one SQLite file that holds items, their vectors, and what made them.

SQL is here, and that of tags in ``tag_rows``; nowhere else. The file is in WAL mode, so that
readers work while one process writes, and every commit is synced: after a kill or a power cut it
holds what was committed. An item's vector never changes; what changes gets a new id, and ids are
never used twice. So an id that a derived file knows still means the same vector, unless a backup
has been restored: it hands out the same ids again. So each state has a random token, and the
store keeps those of the states it has been in.
"""

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..encoders.fingerprint import Fingerprint
from ..errors import StoreError
from ..scoring.vectors import Floats
from .database import create, explained, only_writer
from .opening import Frozen, connect
from .scan import FoundFile
from .tag_rows import TagRows

Status = Literal["embedded", "failed", "unreadable", "other"]
# Of a state that was committed before there were tokens.
NO_TOKEN = "0" * 16
_CHUNK = 4096
_HEX = re.compile("[0-9a-f]{16}")
# How far from 1 a vector's length may be that some precision of a tower made.
_LENGTHS = 0.01
_MOST = 2**63 - 1


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


class Store:
    """An open store; made by ``Store.open``.

    What it reads is held to what a store writes: its file may be anybody's.

    Attributes:
        path: Of the SQLite file.
        fingerprint: What made its vectors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained(path):
            self._db, self._frozen = connect(path)
            try:
                self.fingerprint = self._made_by()
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Opens a store that is there.

        Raises:
            StoreError: It is not, or cannot be read, is no store or of another format.
        """
        if not path.exists():
            raise StoreError(
                f"there is no index at {path}; make one: "
                f"bareclip index FOLDER --db {path} --bundle BUNDLE"
            )
        return cls(path)

    @classmethod
    def make(cls, path: Path, made_by: Fingerprint, bundle: Path) -> "Store":
        """Makes a store, unless there is one, and opens it.

        Args:
            path: Where.
            made_by: Describes the vectors that a new one will hold.
            bundle: The folder of the bundle that will make them.

        Raises:
            StoreError: It cannot be made there.
        """
        if not path.exists():
            check_place(path)
            with explained(path):
                create(path, json.dumps(asdict(made_by)), os.fsencode(bundle))
        return cls(path)

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
            try:
                self._db.execute("BEGIN IMMEDIATE")
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
        """One state of the store, whatever is written meanwhile.

        Raises:
            StoreError: It was written meanwhile where that cannot be kept apart.
        """
        with explained(self.path):
            self._refresh()
            try:
                self._db.execute("BEGIN")
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            if self._frozen not in (None, Frozen.of(self.path)):
                raise StoreError(f"{self.path} was written while it was read; ask again")

    def _refresh(self) -> None:
        """Opens a file again that was opened as one that nobody writes, and was written."""
        if self._frozen in (None, Frozen.of(self.path)):
            return
        self._db.close()
        self._db, self._frozen = connect(self.path)
        if self._made_by() != self.fingerprint:
            raise StoreError(f"{self.path} is another index than it was; open it again")

    @property
    def bundle(self) -> str | None:
        """The folder of the bundle that last wrote to the store; absolute."""
        with explained(self.path):
            folder = self._meta("bundle")
        if not isinstance(folder, bytes) or b"\0" in folder or not os.path.isabs(folder):  # noqa: PTH117
            return None
        return os.fsdecode(folder)

    def remember_bundle(self, folder: Path) -> None:
        if self.bundle != str(folder):
            with self.transaction():
                self._db.execute(
                    "UPDATE meta SET value = ? WHERE name = 'bundle'", (os.fsencode(folder),)
                )

    def _made_by(self) -> Fingerprint:
        try:
            return Fingerprint.parse(self._meta("fingerprint"))
        except ValueError as error:
            raise self.damaged(f"of the model that made it, it says {error}") from error

    def damaged(self, what: str) -> StoreError:
        """The error that says so."""
        return StoreError(
            f"{self.path} is damaged: {what}; put a backup in its place, "
            "or index the photos into a new file"
        )

    def state(self) -> State:
        store, generation = self._meta("store"), self._meta("generation")
        token = self._meta(f"token {generation}") or NO_TOKEN
        # Names of derived files are made of them.
        if not (_is_hex(store) and _is_hex(token) and type(generation) is int and generation >= 0):
            raise self.damaged("it does not say which state it is in")
        return State(store, generation, token, self.fingerprint.width)

    def has_been(self, state: State) -> bool:
        """Whether that was once this store's state: its ids still mean the same vectors."""
        return bool(self._meta(f"token {state.generation}") == state.token)

    def _meta(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def files(self) -> list[KnownFile]:
        rows = self._db.execute(
            "SELECT id, key, path, mounted, size, modified_ns, content, status, reason"
            " FROM items WHERE kind = 'file' ORDER BY id"
        )
        files = [KnownFile(*row) for row in rows]
        for file in files:
            self._checked_name(file.key)
            self._checked_name(file.path)
        return files

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

    def with_content(
        self, content: bytes
    ) -> tuple[int, int, str | None, NDArray[np.float32]] | None:
        """Width, height, metadata and vector of a file with that content."""
        row = self._db.execute(
            "SELECT width, height, metadata, vector FROM items JOIN vectors ON item = id"
            " WHERE content = ? LIMIT 1",
            (content,),
        ).fetchone()
        return None if row is None else (*row[:3], self._rows([row[3]])[0])

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
        if not _are_unit(vector[None]):
            raise StoreError(
                "the model gave a vector that is not of length 1 (NaN, or zero), so nothing more "
                "is indexed; export its bundle again"
            )
        self._db.execute(
            "INSERT INTO vectors VALUES (?, ?)", (item, vector.astype("<f4").tobytes())
        )

    @property
    def tags(self) -> TagRows:
        """The items' tags, to be read and written as the rest."""
        return TagRows(self._db, self.damaged)

    def vector_ids(self, first: int = -(2**63)) -> NDArray[np.int64]:
        """Ids of the items with a vector from ``first`` on, ascending."""
        rows = self._db.execute("SELECT item FROM vectors WHERE item >= ? ORDER BY item", (first,))
        ids = np.fromiter((row[0] for row in rows), np.int64)
        if (ids[1:] <= ids[:-1]).any():
            raise self.damaged("its vectors are in no order")
        return ids

    def vectors(self, first: int) -> Iterator[NDArray[np.float32]]:
        """Vectors of ids from ``first`` on, ascending, some thousand rows at a time."""
        cursor = self._db.execute(
            "SELECT vector FROM vectors WHERE item >= ? ORDER BY item", (first,)
        )
        while rows := cursor.fetchmany(_CHUNK):
            yield self._rows([row[0] for row in rows])

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
                return row[0], self._rows([row[1]])[0]
        return None

    def id_of_file(self, key: bytes) -> int | None:
        row = self._db.execute(
            "SELECT id FROM items WHERE kind = 'file' AND key = ?", (key,)
        ).fetchone()
        return None if row is None else int(row[0])

    def describe(self, item: int) -> tuple[bytes, dict[str, Any] | None, str | None]:
        """An item's path or id, its metadata, and the SHA-256 of its file."""
        row = self._db.execute(
            "SELECT path, metadata, content FROM items WHERE id = ?", (item,)
        ).fetchone()
        if row is None:
            raise self.damaged(f"it has a vector of item {item}, and no such item")
        path, metadata, content = row
        known = content.hex() if isinstance(content, bytes) else None
        return self._checked_name(path), self._object(metadata), known

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
        return self._checked_name(path), width, height, size, known

    def items(self) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
        """Id, path or name, and metadata of the items with a vector, by id."""
        rows = self._db.execute(
            "SELECT item, path, metadata FROM vectors LEFT JOIN items ON id = item ORDER BY item"
        )
        return ((item, self._checked_name(path), self._object(data)) for item, path, data in rows)

    def counts(self) -> dict[tuple[str, Status], int]:
        """How many items of a kind have a status."""
        rows = self._db.execute("SELECT kind, status, count(*) FROM items GROUP BY kind, status")
        return {(kind, status): count for kind, status, count in rows}

    def failures(self) -> list[tuple[bytes, str]]:
        """Paths and reasons of the files that could not be embedded."""
        rows = self._db.execute(
            "SELECT path, reason FROM items WHERE status IN ('failed', 'unreadable') ORDER BY path"
        )
        return [(self._checked_name(path), str(reason)) for path, reason in rows]

    def _object(self, text: object) -> dict[str, Any] | None:
        """An object of the JSON that an item has; None where it has none."""
        if text is None:
            return None
        try:
            found = json.loads(text)  # type: ignore[arg-type]
        except (TypeError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self.damaged("metadata in it is no JSON object")
        return found

    def _checked_name(self, name: object) -> bytes:
        if not isinstance(name, bytes) or not name:
            raise self.damaged(f"an item in it has no name ({name!r:.40})")
        return name

    def _rows(self, blobs: list[object]) -> NDArray[np.float32]:
        """The vectors in blobs, (N, D), which are of length 1."""
        width = self.fingerprint.width
        given = [blob for blob in blobs if isinstance(blob, bytes) and len(blob) == 4 * width]
        if len(given) == len(blobs):
            rows = np.frombuffer(b"".join(given), "<f4").reshape(len(blobs), width)
            if _are_unit(rows):
                return rows
        raise self.damaged(f"a vector in it is not {width} numbers of length 1")


def check_place(path: Path) -> None:
    """Refuses a place where no store can be made.

    Raises:
        StoreError: Its folder is not there.
    """
    if not path.parent.is_dir():
        raise StoreError(f"cannot make {path}: {path.parent} is not a folder")


def _are_unit(rows: Floats) -> bool:
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return bool((np.abs(lengths - 1) < _LENGTHS).all())


def _count(given: object) -> int:
    return given if isinstance(given, int) and given > 0 else 0


def _is_hex(given: object) -> bool:
    return isinstance(given, str) and _HEX.fullmatch(given) is not None
