"""The store: one SQLite file that holds items, their vectors, and what made them.

SQL is here, in ``database``, and in a module per table, as ``item_rows``; nowhere else. The file is
in WAL mode, so that readers work while one process writes, and every commit is synced: after a kill
or a power cut it holds what was committed. An item's vector never changes; what changes gets a new
id, and ids are never used twice. So an id that a derived file knows still means the same vector,
unless a backup has been restored: it hands out the same ids again. So each state has a random
token, and the store keeps those of the states it has been in.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..encoders.fingerprint import Fingerprint
from ..errors import StoreError
from .database import create, explained, only_writer
from .file_rows import FileRows
from .item_rows import ItemRows
from .opening import Frozen, connect
from .tag_rows import TagRows
from .vector_rows import VectorRows

# Of a state that was committed before there were tokens.
NO_TOKEN = "0" * 16
_HEX = re.compile("[0-9a-f]{16}")


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

    @property
    def items(self) -> ItemRows:
        """Files and what was added."""
        return ItemRows(self._db, self.vectors, self.damaged)

    @property
    def files(self) -> FileRows:
        """Those of the items that are files, also the ones without a vector."""
        return FileRows(self._db, self.vectors, self.damaged)

    @property
    def vectors(self) -> VectorRows:
        """The items' vectors."""
        return VectorRows(self._db, self.fingerprint.width, self.damaged)

    @property
    def tags(self) -> TagRows:
        """The items' tags."""
        return TagRows(self._db, self.damaged)


def check_place(path: Path) -> None:
    """Refuses a place where no store can be made.

    Raises:
        StoreError: Its folder is not there.
    """
    if not path.parent.is_dir():
        raise StoreError(f"cannot make {path}: {path.parent} is not a folder")


def _is_hex(given: object) -> bool:
    return isinstance(given, str) and _HEX.fullmatch(given) is not None
