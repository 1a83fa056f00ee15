"""Approximate nearest neighbours: an HNSW graph of a store's vectors, by usearch.

The graph's file is derived, as the matrix's is. Its name says which state of the store it was
made from, so that a stale one is never asked; it is the start of the next.
"""

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..files import replacing
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
        with contextlib.suppress(OSError, RuntimeError):
            with replacing(path) as file:
                index.save(file.name)
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
    """The graph in a file, mapped or in memory; None if it is not there, or cut short."""
    index = _empty(width)
    try:
        (index.view if view else index.load)(str(path))
    except (OSError, RuntimeError):
        return None
    return index


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
            index.add(matrix.ids[start + rows], part[rows])
        start += len(part)


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
