"""Approximate nearest neighbours: an HNSW graph of a store's vectors, by usearch.

The graph's file is derived, as the matrix's is. Its name says which state of the store it was
made from, so that a stale one is never asked; it is the start of the next. usearch follows what
a file says into any memory, so that it is shown none but whole ones that this user made: they
end in a code that only the user's own key makes.
"""

import contextlib
import hmac
import os
import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BareclipError, StoreError
from ..files import replacing
from ..files.user_cache import cache_folder
from ..scoring.vectors import Floats
from .store import NO_TOKEN, State, Store
from .vectors_file import Matrix

# Measured on clusters with benchmarks/search.py. Half precision builds twice as fast and is
# half the size, at the same recall: what is found is scored again from the vectors.
_TYPE = "f16"
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 128
_ROWS = 65536
_COPIES = 8
_KEY_FILE = "index.key"
_KEY_BYTES = 32
_HASH, _HASH_BYTES = "sha256", 32
# Part of the code: graphs made before the lost were added again are made anew.
_MADE_BY = b"2"
_CHUNK = 1 << 20


class Hnsw:
    """An HNSW graph of one state of a store; made by ``Hnsw.load``."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def load(cls, store: Store, matrix: Matrix) -> "Hnsw":
        """The graph of ``matrix``, from its file, or by extending the last one there is.

        Raises:
            StoreError: usearch is not installed.
        """
        path, width = _path(store, matrix.state), matrix.state.width
        index = _read(path, width, view=True)
        if index is not None:
            return cls(index)
        others = _others(store, matrix.state)
        starts = (_read(other, width) for other, state in others if store.has_been(state))
        index = next((start for start in starts if start is not None), _empty(width))
        _update(index, matrix)
        # Where it cannot be kept, it has to be made again next time. usearch, which writes
        # the file, says RuntimeError when the disk is full.
        key = _own_key()
        with contextlib.suppress(OSError, RuntimeError):
            if key is not None:
                with replacing(path) as file:
                    index.save(file.name)
                    file.seek(0, os.SEEK_END)
                    file.write(_code(Path(file.name), path.name, key, file.tell()))
            for other, _ in others:
                other.unlink(missing_ok=True)
        return cls(index)

    def search(self, query: Floats, count: int) -> NDArray[np.int64]:
        """Ids of about the ``count`` nearest, ascending; all of them live."""
        keys = self._index.search(query.astype(np.float32), count).keys
        return np.sort(np.asarray(keys).astype(np.int64))


def import_usearch() -> Any:
    """The class of usearch's indexes.

    Raises:
        StoreError: It is not installed.
    """
    try:
        from usearch.index import Index
    except ImportError as error:
        raise StoreError(
            f"approximate search needs usearch ({error}): pip install 'bareclip[ann]'"
        ) from error
    return Index


def _empty(width: int) -> Any:
    return import_usearch()(
        ndim=width,
        metric="ip",
        dtype=_TYPE,
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


def _read(path: Path, width: int, view: bool = False) -> Any:
    """The graph in a file, mapped or in memory; None if it is not there, or not ours and whole."""
    key = _own_key()
    try:
        if key is None or not path.is_file():  # nor anything that would be waited for
            return None
        end = path.stat().st_size - _HASH_BYTES
        with path.open("rb") as file:
            file.seek(max(0, end))
            if not hmac.compare_digest(file.read(), _code(path, path.name, key, end)):
                return None
        index = _empty(width)
        # What follows the graph, it leaves alone.
        (index.view if view else index.load)(str(path))
    except (OSError, RuntimeError):
        return None
    return index


def _code(path: Path, name: str, key: bytes, end: int) -> bytes:
    """The code of a file's first ``end`` bytes, which ``name`` says the state of."""
    code = hmac.new(key, _MADE_BY + os.fsencode(name), _HASH)
    with path.open("rb") as file:
        while end > 0 and (data := file.read(min(end, _CHUNK))):
            code.update(data)
            end -= len(data)
    return code.digest()


def _own_key() -> bytes | None:
    """This user's key, made when there is none; None where none can be kept."""
    try:
        folder = cache_folder()
        if folder is None:
            return None
        place = folder / _KEY_FILE
        if not place.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = place.with_name(f"{_KEY_FILE}.{secrets.token_hex(4)}.part")
            with os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            part.replace(place)
        status, key = place.stat(), place.read_bytes()
    except (OSError, BareclipError):
        return None
    # Others could make codes with a key of theirs, or with one that they can read.
    own = not hasattr(os, "geteuid") or (
        status.st_uid == os.geteuid() and not status.st_mode & 0o077
    )
    return key if own and len(key) == _KEY_BYTES else None


def _update(index: Any, matrix: Matrix) -> None:
    live = matrix.ids if matrix.live is None else matrix.ids[matrix.live]
    has = np.asarray(index.keys).astype(np.int64)
    gone = has[~np.isin(has, live)]
    if len(gone):
        index.remove(gone)
    missing = np.isin(matrix.ids, live[~np.isin(live, has)])
    start = 0
    for part in matrix.parts:
        places = np.flatnonzero(missing[start : start + len(part)])
        for first in range(0, len(places), _ROWS):
            rows = places[first : first + _ROWS]
            _add(index, matrix.ids[start + rows], part[rows])
        start += len(part)


def _add(index: Any, ids: NDArray[np.int64], rows: Floats) -> None:
    index.add(ids, rows)
    # Threads that add at once do not see one another's: in three of eight graphs of a hundred
    # vectors there were some that nothing led to. Those are added again, by one thread.
    # Some, since copies of one are as near as it is itself.
    nearest = np.asarray(index.search(rows, min(_COPIES, index.size)).keys).reshape(len(ids), -1)
    lost = (nearest.astype(np.int64) != ids[:, None]).all(axis=1)
    if lost.any():
        index.remove(ids[lost])
        index.add(ids[lost], rows[lost], threads=1)


def _path(store: Store, state: State) -> Path:
    name = f"{store.path.name}.{state.store}-{state.generation}-{state.token}.hnsw"
    return store.path.with_name(name)


def _others(store: Store, current: State) -> list[tuple[Path, State]]:
    """Files of the same store's other states, the newest first."""
    # Names had no token once.
    pattern = rf"{re.escape(store.path.name)}\.{current.store}-(\d+)(?:-([0-9a-f]{{16}}))?\.hnsw"
    found = []
    for path in store.path.parent.iterdir():
        match = re.fullmatch(pattern, path.name)
        if match:
            state = replace(current, generation=int(match[1]), token=match[2] or NO_TOKEN)
            found.append((path, state))
    found.sort(key=lambda other: other[1].generation, reverse=True)
    return [(path, state) for path, state in found if state != current]
