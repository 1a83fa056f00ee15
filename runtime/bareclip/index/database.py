"""The SQLite file of a store: its tables, its format version, its one writer, its neighbours."""

import contextlib
import errno
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeAlias

from ..errors import StoreError
from ..files import printable

try:
    import fcntl
except ImportError:  # Windows, whose disks have locks
    fcntl = None  # type: ignore[assignment]

# Makes the error of a store that holds what none writes, of words for that.
Damaged: TypeAlias = Callable[[str], StoreError]
FORMAT_VERSION = 1
# Of an index that was tagged; one that was not stays as earlier versions read it.
TAGGED_VERSION = 2
# "bclp": says whose file it is to file(1), and to us.
_APPLICATION_ID = 0x62636C70
_LONGEST_REASON = 160
# What locking a file says on disks that have no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}

_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """
    CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,      -- 'file', or 'added' from elsewhere
        key BLOB NOT NULL,       -- the path with links resolved, or the id it was added under
        path BLOB NOT NULL,      -- the path it was found at, or the same id
        mounted INTEGER,         -- whether it lay on another device than the folder synced
        size INTEGER,            -- bytes
        modified_ns INTEGER,
        content BLOB,            -- SHA-256 of the bytes
        width INTEGER,           -- pixels, as stored
        height INTEGER,
        status TEXT NOT NULL,
        reason TEXT,
        metadata TEXT,           -- JSON
        UNIQUE (kind, key)
    )
    """,
    "CREATE INDEX items_by_content ON items (content)",
    """
    CREATE TABLE vectors (
        item INTEGER PRIMARY KEY REFERENCES items ON DELETE CASCADE,
        vector BLOB NOT NULL     -- float32, little-endian, of length 1
    )
    """,
    """
    CREATE TRIGGER vector_made AFTER INSERT ON vectors
        BEGIN UPDATE meta SET value = value + 1 WHERE name = 'generation'; END
    """,
    """
    CREATE TRIGGER vector_removed AFTER DELETE ON vectors
        BEGIN UPDATE meta SET value = value + 1 WHERE name = 'generation'; END
    """,
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)

TAGS_BY_LABEL = "CREATE INDEX tags_by_label ON tags (label, probability)"
TAGS_SCHEMA = (
    """
    CREATE TABLE tagger (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        classifier BLOB NOT NULL,    -- a file of Classifier.save
        threshold REAL NOT NULL,
        last INTEGER NOT NULL        -- the item that it has seen last
    )
    """,
    "CREATE TABLE labels (id INTEGER PRIMARY KEY, label TEXT NOT NULL)",
    """
    CREATE TABLE tags (
        item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE,
        label INTEGER NOT NULL,
        probability REAL NOT NULL,
        PRIMARY KEY (item, label)
    ) WITHOUT ROWID
    """,
    TAGS_BY_LABEL,
)
_SCHEMAS = {FORMAT_VERSION: _SCHEMA, TAGGED_VERSION: (*_SCHEMA, *TAGS_SCHEMA)}


def create(path: Path, fingerprint: str, bundle: bytes) -> None:
    """Makes a store, whole or not at all, unless another process has done so meanwhile."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    values = {
        "store": secrets.token_hex(8),
        "generation": 0,
        "fingerprint": fingerprint,
        "bundle": bundle,
    }
    with only_writer(path):
        if path.exists():
            return
        try:
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as db:
                # At SQLite's 4 KiB a page would hold one vector of 512 and be half empty.
                db.execute("PRAGMA page_size = 16384")
                db.execute("PRAGMA journal_mode = WAL")
                for statement in _SCHEMA:
                    db.execute(statement)
                db.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)


def check_format(path: Path, db: sqlite3.Connection) -> None:
    """Refuses what is no store, a store of another format, and one that holds more.

    A view or a trigger would be run in the place of what we ask for.

    Raises:
        StoreError: It is one of those.
    """
    # As of one moment: another process may be making the one version of the other.
    db.execute("BEGIN")
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        schema = _schema(db)
    finally:
        if db.in_transaction:  # SQLite ends it by itself after some errors
            db.execute("ROLLBACK")
    if application != _APPLICATION_ID:
        raise StoreError(f"{path} is not a photo index of bareclip; give another file")
    if version not in _SCHEMAS:
        raise StoreError(
            f"{path} has format version {version}; this bareclip reads {FORMAT_VERSION} and "
            f"{TAGGED_VERSION}: update bareclip, or index the photos into a new file"
        )
    if schema != _own_schema(version):
        raise StoreError(
            f"{path} has other tables, views or triggers than bareclip makes, so it is not asked; "
            "index the photos into a new file"
        )


@cache
def _own_schema(version: int) -> set[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in _SCHEMAS[version]:
            db.execute(statement)
        return _schema(db)


def _schema(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Type, name, table and SQL of what is in a database, but for SQLite's own."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    described = [tuple(" ".join(str(value).split()) for value in row) for row in rows]
    own = (("table", "sqlite_"), ("index", "sqlite_"))
    return {row for row in described if (row[0], row[1][:7]) not in own}


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keeps every other writer of the store at ``path`` out.

    Raises:
        StoreError: There is one already.
    """
    # An exclusive lock of SQLite's on an empty file beside the store: portable, let go by
    # the system when its holder dies, and no hindrance to readers.
    with contextlib.ExitStack() as held:
        try:
            lock = sqlite3.connect(f"{path}.lock", timeout=0, isolation_level=None)
            held.callback(lock.close)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            check_locks(path)
            if "locked" not in str(error):
                raise _cannot_write(path, error) from error
            raise StoreError(
                f"{path} is being written by another process; "
                "wait until it has ended; searching works meanwhile"
            ) from error
        yield


def check_locks(path: Path) -> None:
    """Asks the disk itself, since SQLite takes one without locks for one that is locked.

    Raises:
        StoreError: It has no locks.
    """
    # A file of its own: closing any other would let go what this process has locked in it.
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with probe.open("xb") as file:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StoreError(
                f"{path} lies on a disk that has no file locks ({error.strerror}), as some "
                "network disks: an index there would be torn; keep it on a local disk: --db"
            ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours.

    Raises:
        StoreError: In the place of ``sqlite3.Error``.
        KeyboardInterrupt: It came while SQLite worked.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second, of a damaged file's names
        if "interrupted" in str(error):
            raise KeyboardInterrupt from error
        if "readonly" in str(error):
            raise _cannot_write(path, error) from error
        if "full" in str(error):
            raise StoreError(
                f"no room left to write {path}: what was indexed so far is kept; "
                "make room and run the same again"
            ) from error
        raise StoreError(
            f"cannot use {path} as a photo index: {one_line(error)}; check the file and its "
            "folder, or index into a new file"
        ) from error


def _cannot_write(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"cannot write {path} ({error}): it and its folder must be ones that can be written; "
        "searching works without"
    )


def one_line(error: Exception) -> str:
    """What a reader of files says, which may quote anything that is in them."""
    return printable(" ".join(str(error).split())[:_LONGEST_REASON]) or type(error).__name__


def is_store_file(name: str, store: Path) -> bool:
    """Whether a file beside ``store`` belongs to it: itself, SQLite's, or a derived one."""
    graph = r"\.[0-9a-f]{16}-\d+(-[0-9a-f]{16})?\.hnsw"
    own = rf"(-wal|-shm|-journal|\.lock|\.lock-journal|\.vectors|{graph})?"
    return _matches(store, own, name) or _is_leftover(name, store)


def remove_leftovers(store: Path) -> None:
    """Removes what was being written beside a store when a process was killed."""
    for path in store.parent.iterdir():
        if _is_leftover(path.name, store):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_leftover(name: str, store: Path) -> bool:
    return _matches(store, r"\.(.+\.)?[0-9a-f]{8}\.part(-wal|-shm|-journal)?", name)


def _matches(store: Path, pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(store.name) + pattern, name) is not None
