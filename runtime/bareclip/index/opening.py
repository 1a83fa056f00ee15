"""Opens the SQLite file of a store, also where nothing may be written; trusts nothing in it."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError
from .database import check_format, check_locks

_BUSY_SECONDS = 60
# What SQLite says where it may not make, or not share, the files that it wants beside the store.
_NOT_WRITABLE = ("unable to open", "readonly", "disk I/O error")
# SQLite's steps between two looks at whether Ctrl-C was pressed: some milliseconds.
_STEPS = 100_000


@dataclass(frozen=True)
class Frozen:
    """A file as it was when it was opened to be read without locks.

    A later difference means that another process has written it.
    """

    inode: int
    size: int
    modified_ns: int
    log: int

    @classmethod
    def of(cls, path: Path) -> "Frozen":
        try:
            status, log = path.stat(), Path(f"{path}-wal")
            size = log.stat().st_size if log.exists() else 0
        except OSError as error:
            raise StoreError(f"{path} is not there any more: {error.strerror}") from error
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, size)


def connect(path: Path) -> tuple[sqlite3.Connection, Frozen | None]:
    """Opens a store's file.

    Returns:
        The connection; and how the file was where it is read as one that nobody changes,
        which is all that SQLite can do where it may not write beside it. None elsewhere.

    Raises:
        StoreError: It is no store, or cannot be read there.
        sqlite3.Error: It is damaged.
    """
    if not path.is_file():
        raise StoreError(f"{path} is not a file; give the file of an index")
    try:
        return _checked(path, str(path)), None
    except sqlite3.OperationalError as error:
        if not any(words in str(error) for words in _NOT_WRITABLE):
            raise
        seen = Frozen.of(path)
        if seen.log:
            raise StoreError(
                f"{path} was last written to {path.name}-wal, which cannot be read where nothing "
                "may be written; copy both files to a folder of your own, and search there"
            ) from error
    return _checked(path, f"{path.as_uri()}?immutable=1"), seen


def _checked(path: Path, name: str) -> sqlite3.Connection:
    # Threads are kept apart by the index, whose lock covers more than a statement.
    db = sqlite3.connect(
        name, timeout=0, isolation_level=None, check_same_thread=False, uri=name != str(path)
    )
    try:
        # Python sees a signal only when SQLite calls it back.
        db.set_progress_handler(lambda: 0, _STEPS)
        db.text_factory = lambda data: data.decode(errors="replace")
        db.execute("PRAGMA trusted_schema = OFF")
        try:
            check_format(path, db)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            check_locks(path)
            db.execute(f"PRAGMA busy_timeout = {1000 * _BUSY_SECONDS}")
            check_format(path, db)
        db.execute(f"PRAGMA busy_timeout = {1000 * _BUSY_SECONDS}")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db
