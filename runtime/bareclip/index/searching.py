"""Answers from a store: its vectors and its graph, kept from one question to the next."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError, short
from ..scoring.nearest import dot_products, nearest
from ..scoring.vectors import Floats
from ..types import IndexHit
from .hnsw import Hnsw
from .store import Store
from .vectors_file import Matrix, load_matrix


@dataclass(frozen=True)
class Wanted:
    """What hits are wanted; see ``Index.search``."""

    k: int
    under: str | os.PathLike[str] | None
    min_similarity: float | None
    approximate: bool
    tag: str | None = None


class Searcher:
    """Searches a store; within its ``reading``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._matrix: Matrix | None = None
        self._graph: tuple[Matrix, Hnsw] | None = None

    def tidy(self) -> None:
        """Makes the file of vectors anew, after much was written."""
        self._matrix = load_matrix(self._store, tidy=True)

    def ask(
        self, rows: Floats, keys: Sequence[bytes | None], wanted: Wanted
    ) -> list[list[IndexHit]]:
        """The hits of several queries.

        Args:
            rows: (Q, D) unit rows.
            keys: Of the files that the queries are, which are not found themselves.
            wanted: The same of all.
        """
        matrix = self.current_matrix()
        itself = [None if key is None else self._store.id_of_file(key) for key in keys]
        # One more, where the query's own file may be found and is left out.
        k = wanted.k + any(item is not None for item in itself)
        whole = wanted.under is None and wanted.tag is None
        # A graph asked for much of what it holds walks all of it, and still misses some.
        if wanted.approximate and whole and k * 10 <= len(matrix.ids):
            found = self._approximate(matrix, rows, k)
        else:
            allowed = self._allowed(matrix, wanted.under)
            if wanted.tag is not None:
                having, _ = self._having(wanted.tag)
                chosen = np.isin(matrix.ids, having)
                allowed = chosen if allowed is None else allowed & chosen
            found = nearest(matrix.parts, rows, k, allowed)
        return [
            self._hits(matrix.ids[places], scores, own, wanted)
            for (places, scores), own in zip(found, itself, strict=True)
        ]

    def tagged(self, label: str, k: int) -> list[IndexHit]:
        """The items that have a tag, the most probable first."""
        items, shares = self._having(label)
        return self._hits(items[:k], shares[:k], None, Wanted(k, None, None, False))

    def _having(self, label: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Items that have a tag, and how probable it is.

        Raises:
            StoreError: The index was not tagged, or not with that label.
        """
        labels = self._store.tags.labels()
        if label not in labels:
            known = f"its {len(labels)} tags are {', '.join(map(short, labels[:5]))}"
            which = known + (" and others" if len(labels) > 5 else "") if labels else "it has none"
            raise StoreError(
                f"{self._store.path} has no tag {short(label)}: {which}; to tag it: "
                f"bareclip tag {self._store.path} --labels LABELS"
            )
        return self._store.tags.having(label)

    def current_matrix(self) -> Matrix:
        """The vectors of the store's current state."""
        if self._matrix is None or self._matrix.state != self._store.state():
            self._matrix = load_matrix(self._store, tidy=False)
        return self._matrix

    def _allowed(
        self, matrix: Matrix, under: str | os.PathLike[str] | None
    ) -> NDArray[np.bool_] | None:
        if under is None:
            return matrix.live
        name = os.fsencode(under)
        path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111
        resolved = os.path.realpath(path)
        if name.endswith(b"/"):
            path = os.path.join(path, b"")  # noqa: PTH118
        # The name of a link may be the start of other names; what it leads to is a folder.
        if name.endswith(b"/") or os.path.islink(path):  # noqa: PTH114
            resolved = os.path.join(resolved, b"")  # noqa: PTH118
        return np.isin(matrix.ids, self._store.ids_under(path, resolved, name))

    def _approximate(
        self, matrix: Matrix, rows: Floats, k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        if self._graph is None or self._graph[0] is not matrix:
            self._graph = matrix, Hnsw.load(self._store, matrix)
        found = []
        for row in rows:
            places = np.searchsorted(matrix.ids, self._graph[1].search(row, k))
            scores = dot_products(matrix.parts, row, places)
            order = np.lexsort((places, -scores))
            found.append((places[order], scores[order]))
        return found

    def _hits(
        self,
        ids: Iterable[int],
        scores: NDArray[np.float64],
        own: int | None,
        wanted: Wanted,
    ) -> list[IndexHit]:
        least = wanted.min_similarity
        hits: list[IndexHit] = []
        for item, score in zip(ids, scores, strict=True):
            if item == own or (least is not None and score < least):
                continue
            path, metadata, content = self._store.describe(int(item))
            hits.append(IndexHit(os.fsdecode(path), float(score), metadata, content))
        return hits[: wanted.k]
