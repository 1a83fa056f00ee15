"""Answers from a store: its vectors and its graph, kept from one question to the next."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError, short
from ..scoring.diversity import spread_out
from ..scoring.near_groups import take_rows
from ..scoring.nearest import dot_products, nearest
from ..scoring.vectors import Floats
from ..types import IndexHit, Vectors
from .adding import item_name
from .filters import Filter, having
from .hnsw import Hnsw
from .query import Like, Query, file_keys, likes_of
from .store import Store
from .vectors_file import Matrix, load_matrix

# Candidates of an answer that is spread out, per hit, and at least.
_CANDIDATES, _FEWEST = 10, 100


@dataclass(frozen=True)
class Wanted:
    """What hits are wanted; see ``Index.search``."""

    k: int
    filter: Filter
    min_similarity: float | None
    diverse: float
    approximate: bool

    @property
    def candidates(self) -> int:
        """How many are asked for, to take the hits of."""
        return max(_FEWEST, _CANDIDATES * self.k) if self.diverse and self.k else self.k


class Searcher:
    """Searches a store; within its ``reading``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._matrix: Matrix | None = None
        self._graph: tuple[Matrix, Hnsw] | None = None

    def tidy(self) -> None:
        """Makes the file of vectors anew, after much was written."""
        self._matrix = load_matrix(self._store, tidy=True)

    def known(self, queries: Iterable[Query]) -> dict[Like, tuple[int, Vectors]]:
        """Ids and vectors of the items that queries are made of.

        Raises:
            StoreError: There is no such item.
        """
        found = {}
        for like in {part for query in queries for part in likes_of(query)}:
            item = self._store.items.find(item_name(like.item))
            if item is None:
                raise StoreError(
                    f"{self._store.path} has no item {short(like.item)}; give a photo's path, or "
                    "the id that a vector was added under"
                )
            found[like] = item
        return found

    def made_of(self, query: Query, known: Mapping[Like, tuple[int, Vectors]]) -> set[int]:
        """Ids of the items that a query is made of."""
        files = (self._store.files.id_of(key) for key in file_keys(query))
        return {known[like][0] for like in likes_of(query)} | {
            item for item in files if item is not None
        }

    def ask(self, rows: Floats, own: Sequence[Set[int]], wanted: Wanted) -> list[list[IndexHit]]:
        """The hits of several queries.

        Args:
            rows: (Q, D) unit rows.
            own: For each query the items that it is made of, which are not found themselves.
            wanted: The same of all.
        """
        matrix = self.current_matrix()
        # More, where a query's own items may be found and are left out.
        k = wanted.candidates + max(map(len, own), default=0)
        # A graph asked for much of what it holds walks all of it, and still misses some.
        if wanted.approximate and not wanted.filter and k * 10 <= len(matrix.ids):
            found = self._approximate(matrix, rows, k)
        else:
            found = nearest(matrix.parts, rows, k, self._allowed(matrix, wanted.filter))
        return [
            self._hits(matrix, places, scores, itself, wanted)
            for (places, scores), itself in zip(found, own, strict=True)
        ]

    def tagged(self, label: str, k: int, chosen: Filter) -> list[IndexHit]:
        """The items that have a tag, the most probable first."""
        items, shares = having(self._store, label)
        if chosen:
            passing = chosen.passing(self._store, items)
            items, shares = items[passing], shares[passing]
        return self._described(items[:k], shares[:k])

    def current_matrix(self) -> Matrix:
        """The vectors of the store's current state."""
        if self._matrix is None or self._matrix.state != self._store.state():
            self._matrix = load_matrix(self._store, tidy=False)
        return self._matrix

    def places(self, matrix: Matrix, chosen: Filter) -> NDArray[np.int64]:
        """Which rows may be found, by their places."""
        allowed = self._allowed(matrix, chosen)
        return np.arange(len(matrix.ids)) if allowed is None else np.flatnonzero(allowed)

    def _allowed(self, matrix: Matrix, chosen: Filter) -> NDArray[np.bool_] | None:
        """Which rows may be found; None for all."""
        if not chosen:
            return matrix.live
        passing = chosen.passing(self._store, matrix.ids)
        return passing if matrix.live is None else passing & matrix.live

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
        matrix: Matrix,
        places: NDArray[np.int64],
        scores: NDArray[np.float64],
        own: Set[int],
        wanted: Wanted,
    ) -> list[IndexHit]:
        kept = ~np.isin(matrix.ids[places], [*own])
        if wanted.min_similarity is not None:
            kept &= scores >= wanted.min_similarity
        places, scores = places[kept][: wanted.candidates], scores[kept][: wanted.candidates]
        if wanted.diverse:
            rows = take_rows(matrix.parts, places)
            order = spread_out(scores, rows, wanted.k, wanted.diverse)
            places, scores = places[order], scores[order]
        return self._described(matrix.ids[places], scores)

    def _described(self, ids: NDArray[np.int64], scores: NDArray[np.float64]) -> list[IndexHit]:
        hits: list[IndexHit] = []
        for item, score in zip(ids, scores, strict=True):
            path, metadata, content = self._store.items.describe(int(item))
            hits.append(IndexHit(os.fsdecode(path), float(score), metadata, content))
        return hits
