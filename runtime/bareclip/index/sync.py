"""Brings a store up to date with a folder: what is new, changed, moved or gone.

A batch is a transaction: killed at any moment, the next run redoes at most one.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Set
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..encoders import ImageEncoder
from ..errors import StoreError
from ..images.folders import lies_in_excluded
from ..images.heif import NEEDS_EXTRA, register_heif
from ..types import Vectors
from .database import is_store_file
from .file_rows import KnownFile
from .inspection import Inspected, inspect_file
from .scan import FoundFile, Scan, relative, scan
from .store import Store

# Files that cost no embedding are written this many at a time.
_BATCH = 64


@dataclass(frozen=True)
class FileFailure:
    """A file or folder that could not be used: its path, and why, in one line."""

    path: str
    reason: str


@dataclass(frozen=True)
class SyncProgress:
    """How far a sync has come: files of those that are to be looked into."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, in files.

    Attributes:
        added: New ones, embedded.
        changed: Embedded again.
        renamed: Known by their content at another place.
        unchanged: Skipped, or found with another time and the same content.
        removed: Gone from the folder.
        kept: Not found, yet kept: what they lay on may only be away. ``prune`` removes them.
        failures: Looked into this time, and of no use.
        unreadable: Folders that could not be listed; what was known under them is kept.
        left_out: Pictures, by their endings, and folders that were left out by name.
    """

    added: int
    changed: int
    renamed: int
    unchanged: int
    removed: int
    kept: int
    failures: list[FileFailure]
    unreadable: list[FileFailure]
    left_out: int


# A file that was looked into, and its vector where it is a picture.
_Found = tuple[Inspected, Vectors | None]

Report = Callable[[SyncProgress], None]


def sync(
    store: Store,
    encoder: ImageEncoder,
    folder: Path,
    prune: bool,
    report: Report,
    exclude: tuple[str, ...],
) -> SyncReport:
    """As ``Index.sync``; the caller keeps other writers out."""
    root = os.path.abspath(os.fsencode(folder))
    with store.reading():
        known = {file.key: file for file in store.files.known()}
    below = os.path.join(root, b"")
    here = _under(below, known.values())
    found = _scan(root, here, prune, store.path, exclude)
    seen = {file.key for file in found.files}
    absent = [file for file in here if file.key not in seen]
    gone = [file for file in absent if prune or not _may_be_away(file, root, found)]
    work = _Work(store, encoder, known, gone)
    todo, elsewhere = [], []
    for file in found.files:
        before = known.get(file.key)
        if before is None or not _is_unchanged(before, file):
            todo.append(file)
        elif before.path != file.path and (before.path.startswith(below) or file.path == file.key):
            elsewhere.append((before.id, file))
    work.unchanged = len(found.files) - len(todo)
    with store.transaction():
        for item, file in elsewhere:
            store.files.move(item, file)
    work.run(todo, report)
    with store.transaction():
        store.items.remove(file.id for file in work.gone.values())
    return SyncReport(
        added=work.added,
        changed=work.changed,
        renamed=work.renamed,
        unchanged=work.unchanged,
        removed=len(work.gone),
        kept=len(absent) - len(gone),
        failures=work.failures,
        unreadable=[FileFailure(os.fsdecode(path), why) for path, why in found.unreadable],
        left_out=found.left_out,
    )


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be listed, before an index is made for it.

    Raises:
        StoreError: It is one.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise StoreError(f"cannot read folder {folder}: {error.strerror}") from error


def _under(below: bytes, known: Iterable[KnownFile]) -> list[KnownFile]:
    """What is known of files in a folder, by whichever of its names, as if found by this."""
    resolved = os.path.join(os.path.realpath(below), b"")
    here = []
    for file in known:
        if file.path.startswith(below):
            here.append(file)
            continue
        # Not the key alone: links in the folder lead to keys outside of it.
        for place in (file.path, file.key):
            if place.startswith(resolved):
                here.append(dataclasses.replace(file, path=below + place[len(resolved) :]))
                break
    return here


def _scan(
    root: bytes, here: list[KnownFile], prune: bool, own: Path, exclude: tuple[str, ...]
) -> Scan:
    name = os.fsdecode(root)
    hint = f"; to remove the {len(here)} files known under it: --prune" if here else ""
    try:
        found = scan(root, exclude)
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if missing and here and prune:
            return Scan(device=-1)
        raise StoreError(f"cannot read folder {name}: {error.strerror}{hint}") from error
    beside = os.fsencode(own.parent)
    found.files = [
        file
        for file in found.files
        if os.path.dirname(file.key) != beside
        or not is_store_file(os.fsdecode(os.path.basename(file.key)), own)
    ]
    missed = [file for file in here if not lies_in_excluded(relative(file.path, root), exclude)]
    if missed and not found.files and not found.unreadable and not prune:
        raise StoreError(f"folder {name} is empty; is its disk mounted?{hint}")
    return found


def _may_be_away(file: KnownFile, root: bytes, found: Scan) -> bool:
    """Whether a file that was not found may lie where nothing can be seen just now."""
    for folder, _ in found.unreadable:
        if file.path.startswith(os.path.join(folder, b"")):
            return True
    if not file.mounted:
        return False
    # It lay on another device. If what is left of its path is on the folder's own, that
    # device is not mounted.
    place = os.path.dirname(file.path)
    while len(place) > len(root) and not os.path.isdir(place):
        place = os.path.dirname(place)
    return os.stat(place).st_dev == found.device


def _is_unchanged(before: KnownFile, now: FoundFile) -> bool:
    return (
        before.status != "unreadable"
        and not (before.reason == NEEDS_EXTRA and register_heif())
        and now.problem is None
        and (before.size, before.modified_ns) == (now.size, now.modified_ns)
    )


class _Work:
    """Looks into files in threads and writes what comes of it, a transaction per batch."""

    def __init__(
        self,
        store: Store,
        encoder: ImageEncoder,
        known: dict[bytes, KnownFile],
        gone: list[KnownFile],
    ) -> None:
        self.added = self.changed = self.renamed = self.unchanged = 0
        self.failures: list[FileFailure] = []
        self.gone = {file.id: file for file in gone}
        self._moved = {file.content: file for file in gone if file.status == "embedded"}
        self._store = store
        self._encoder = encoder
        self._known = known
        # Shared with the threads, which only ask what is in it.
        self._contents = {file.content for file in known.values() if file.content is not None}

    def run(self, todo: list[FoundFile], report: Report) -> None:
        batch: list[_Found] = []
        done = pictures = 0
        report(SyncProgress(0, len(todo), 0))
        read = partial(self._inspect, known=self._contents)
        with closing(self._encoder.embed_each(todo, read)) as found:
            for looked_into, vector in found:
                batch.append((looked_into, vector))
                pictures += vector is not None
                # What the encoder had in one batch goes into one transaction.
                if pictures == self._encoder.batch_size or len(batch) == _BATCH:
                    self._write(batch)
                    done += len(batch)
                    report(SyncProgress(done, len(todo), len(self.failures)))
                    batch, pictures = [], 0
        if batch:
            self._write(batch)
            report(SyncProgress(len(todo), len(todo), len(self.failures)))

    def _inspect(
        self, file: FoundFile, known: Set[bytes]
    ) -> tuple[Inspected, NDArray[np.uint8] | None]:
        return inspect_file(file, self._encoder, self._store.fingerprint, known)

    def _write(self, batch: list[_Found]) -> None:
        # Before anything is written: a file whose content is copied may itself be replaced
        # in this batch, as when two change places.
        with self._store.reading():
            rows = [self._with_vector(*found) for found in batch]
        with self._store.transaction():
            for inspected, vector in rows:
                self._write_one(inspected, vector)

    def _with_vector(self, inspected: Inspected, vector: Vectors | None) -> _Found:
        """With the vector of the same content where the store has it."""
        row = inspected.row
        if row.content is None or vector is not None:
            return inspected, vector
        source = self._store.files.with_content(row.content)
        if source is None:  # its last copy has been replaced since
            inspected, pixels = self._inspect(inspected.file, known=frozenset())
            fresh = None if pixels is None else self._encoder.embed_pixels(pixels[None])[0]
            return inspected, fresh
        width, height, metadata, vector = source
        row = dataclasses.replace(row, width=width, height=height, metadata=metadata)
        return dataclasses.replace(inspected, row=row), vector

    def _write_one(self, inspected: Inspected, vector: Vectors | None) -> None:
        row, before = inspected.row, self._known.get(inspected.row.key)
        if row.content is None:
            self._store.files.put(row, None)
            if row.status != "other":
                self.failures.append(FileFailure(os.fsdecode(row.path), str(row.reason)))
        elif before is not None and before.content == row.content:
            self._store.files.move(before.id, inspected.file)
            self.unchanged += 1
        elif (moved := self._moved.pop(row.content, None)) is not None:
            del self.gone[moved.id]
            self._store.files.move(moved.id, inspected.file)
            self.renamed += 1
        else:
            self._store.files.put(row, vector)
            self._contents.add(row.content)
            self.added += before is None
            self.changed += before is not None
