"""A store's vectors as one array, mapped from a file beside it.

Reading a million blobs from SQLite takes many seconds; mapping an array takes none, shares
its pages between processes, and needs no memory of its own. The file is derived: it names
the state of the store it was made from, is never changed, and is replaced whole. One that is
behind is used for the rows it has, which are the same for ever, together with what the store
has more; when that becomes much, the file is made anew. One of a state that the store has
not been in, as when a backup of the store was restored, is not used; nor is one whose checksum
is not that of what it holds.

    offset 0      header: "bareclip", format 3, width, rows, generation, store and token; then
                  the checksum of all the rest
    offset 4096   rows x width float32, little-endian
    then          rows x int64: the items' ids, ascending
"""

import contextlib
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import replacing
from .store import NO_TOKEN, State, Store

_HEADER = struct.Struct("<8sIIQQ16s16s")
_MAGIC = b"bareclip"
_FORMAT = 3
_CHECKSUM = hashlib.sha256().digest_size
_OFFSET = 4096
# The share of the vectors that may be read from the store before the file is made anew.
_BEHIND = 0.02
# Rows summed at a time, so that they are read from memory once.
_CHUNK = 512
# Files that this process has found whole: by path, the inode, size, time and checksum.
_whole: dict[Path, tuple[int, int, int, bytes]] = {}


@dataclass(frozen=True)
class Matrix:
    """The vectors of one state of a store.

    Attributes:
        state: Which.
        ids: (N,) of the items, ascending.
        parts: Arrays (N_i, D) that hold the N rows: the file's, and those read since.
        live: (N,) whether the item is still there; None if all are.
    """

    state: State
    ids: NDArray[np.int64]
    parts: list[NDArray[np.float32]]
    live: NDArray[np.bool_] | None


def load_matrix(store: Store, tidy: bool) -> Matrix:
    """The vectors as they are in the store's current state.

    Args:
        store: Within its ``reading``.
        tidy: Make the file anew even if it is only a little behind.
    """
    state, path = store.state(), _path(store)
    saved = _read(path, state)
    if saved.state == state:
        return saved
    if not store.has_been(saved.state):
        saved = _nothing(state)
    ids = store.vectors.ids()
    live = np.isin(saved.ids, ids, assume_unique=True)
    new = ids[ids > saved.ids[-1]] if len(saved.ids) else ids
    behind = len(new) + np.count_nonzero(~live)
    if behind > (0 if tidy else _BEHIND * len(ids)):
        # Where nothing can be written, or no room is left, memory has to do.
        with contextlib.suppress(OSError):
            _write(path, store, state, saved, live, ids, new)
            made = _read(path, state)
            if made.state == state:
                return made
    first = int(new[0]) if len(new) else 0
    added = np.empty((len(new), state.width), np.float32)
    row = 0
    for rows in store.vectors.chunks(first) if len(new) else ():
        added[row : row + len(rows)] = rows[: len(new) - row]
        row += len(rows)
    if row != len(new):
        raise store.damaged("it holds other vectors than it lists")
    alive = np.concatenate([live, np.ones(len(new), np.bool_)])
    return Matrix(
        state,
        np.concatenate([saved.ids, new]),
        [*saved.parts, added],
        None if alive.all() else alive,
    )


def _path(store: Store) -> Path:
    return store.path.with_name(f"{store.path.name}.vectors")


def _nothing(wanted: State) -> Matrix:
    return Matrix(
        State(wanted.store, -1, NO_TOKEN, wanted.width),
        np.empty(0, np.int64),
        [np.empty((0, wanted.width), np.float32)],
        None,
    )


def _read(path: Path, wanted: State) -> Matrix:
    """What the file holds, whole; nothing if it is of another store, or damaged."""
    nothing = _nothing(wanted)
    if not path.is_file():  # nor anything else that would be waited for
        return nothing
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            checksum = file.read(_CHECKSUM)
            if len(checksum) < _CHECKSUM:
                return nothing
            magic, version, width, rows, generation, name, token = _HEADER.unpack(header)
            expected = (_MAGIC, _FORMAT, wanted.width, wanted.store.encode())
            status = os.fstat(file.fileno())
            size = _OFFSET + rows * (4 * width + 8)
            if (magic, version, width, name) != expected or status.st_size != size or not rows:
                return nothing
            data = np.asarray(np.memmap(file, np.uint8, "r"))
    except OSError:
        return nothing
    end = _OFFSET + 4 * rows * width
    found = Matrix(
        State(wanted.store, generation, token.decode(errors="replace"), width),
        data[end:].view("<i8"),
        [data[_OFFSET:end].view("<f4").reshape(rows, width)],
        None,
    )
    seen = (status.st_ino, status.st_size, status.st_mtime_ns, checksum)
    if _whole.get(path) != seen:
        summed = _Checksum(header)
        summed.update(found.parts[0])
        if summed.digest(found.ids) != checksum:
            return nothing
        _whole[path] = seen
    return found


class _Checksum:
    """A checksum of rows that is as fast as memory, which a cryptographic one is not.

    The numbers' bits, as integers, are summed along each row and each column, modulo 2^64; the
    sums are hashed. Rows that change places change the first, numbers within a row the second.
    Against accidents only: who can write the file can write the checksum.
    """

    def __init__(self, header: bytes) -> None:
        self._hash = hashlib.sha256(header)
        self._columns: NDArray[np.uint64] | int = 0

    def update(self, rows: NDArray[np.float32]) -> None:
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            words = some.view(np.uint64 if some.shape[1] % 2 == 0 else np.uint32)
            self._hash.update(words.sum(axis=1, dtype=np.uint64).tobytes())
            self._columns = self._columns + words.sum(axis=0, dtype=np.uint64)

    def digest(self, ids: NDArray[np.int64]) -> bytes:
        self._hash.update(np.asarray(self._columns).tobytes())
        self._hash.update(ids.tobytes())
        return self._hash.digest()


def _write(
    path: Path,
    store: Store,
    state: State,
    saved: Matrix,
    live: NDArray[np.bool_],
    ids: NDArray[np.int64],
    new: NDArray[np.int64],
) -> None:
    with replacing(path) as file:
        name, token = state.store.encode(), state.token.encode()
        sizes = state.width, len(ids), state.generation
        header = _HEADER.pack(_MAGIC, _FORMAT, *sizes, name, token)
        summed = _Checksum(header)
        file.write(bytes(_OFFSET))
        kept = np.flatnonzero(live)
        count = 0
        for start in range(0, len(kept), _OFFSET):
            rows = saved.parts[0][kept[start : start + _OFFSET]]
            summed.update(rows)
            file.write(rows.tobytes())
            count += len(rows)
        for rows in store.vectors.chunks(int(new[0])) if len(new) else ():
            summed.update(rows)
            file.write(rows.tobytes())
            count += len(rows)
        if count != len(ids):
            raise store.damaged("it holds other vectors than it lists")
        file.write(ids.astype("<i8").tobytes())
        file.seek(0)
        file.write(header + summed.digest(ids))
