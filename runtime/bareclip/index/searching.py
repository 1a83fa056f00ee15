"""Answers from a store: its vectors and its graph, kept from one question to the next."""

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError, short
from ..scoring.diversity import spread_out
from ..scoring.near_groups import take_rows
from ..scoring.nearest import dot_products, nearest
from ..scoring.vectors import Floats
from ..types import IndexHit
from .hnsw import Hnsw
from .store import Store
from .vectors_file import Matrix, load_matrix

# Candidates of an answer that is spread out, per hit, and at least.
_CANDIDATES, _FEWEST = 10, 100


@dataclass(frozen=True)
class Wanted:
    """What hits are wanted; see ``Index.search``."""

    k: int
    under: str | os.PathLike[str] | None
    after: str | None
    before: str | None
    min_similarity: float | None
    diverse: float
    approximate: bool
    tag: str | None = None

    @property
    def filtered(self) -> bool:
        """Whether not all items may be found."""
        return any(one is not None for one in (self.under, self.after, self.before, self.tag))

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
        if wanted.approximate and not wanted.filtered and k * 10 <= len(matrix.ids):
            found = self._approximate(matrix, rows, k)
        else:
            allowed = self._allowed(matrix, wanted.under, wanted.after, wanted.before, wanted.tag)
            found = nearest(matrix.parts, rows, k, allowed)
        return [
            self._hits(matrix, places, scores, itself, wanted)
            for (places, scores), itself in zip(found, own, strict=True)
        ]

    def tagged(self, label: str, k: int) -> list[IndexHit]:
        """The items that have a tag, the most probable first."""
        items, shares = self._having(label)
        return self._described(items[:k], shares[:k])

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

    def places(self, matrix: Matrix, under: str | os.PathLike[str] | None) -> NDArray[np.int64]:
        """Which rows may be found, by their places."""
        allowed = self._allowed(matrix, under)
        return np.arange(len(matrix.ids)) if allowed is None else np.flatnonzero(allowed)

    def _allowed(
        self,
        matrix: Matrix,
        under: str | os.PathLike[str] | None,
        after: str | None = None,
        before: str | None = None,
        tag: str | None = None,
    ) -> NDArray[np.bool_] | None:
        """Which rows may be found; None for all."""
        chosen = []
        if under is not None:
            chosen.append(self._ids_under(under))
        if after is not None or before is not None:
            chosen.append(self._store.ids_dated(after, before))
        if tag is not None:
            chosen.append(self._having(tag)[0])
        allowed = matrix.live
        for ids in chosen:
            among = np.isin(matrix.ids, ids)
            allowed = among if allowed is None else allowed & among
        return allowed

    def _ids_under(self, under: str | os.PathLike[str]) -> NDArray[np.int64]:
        name = os.fsencode(under)
        path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111
        resolved = os.path.realpath(path)
        is_folder = name.endswith((b"/", os.fsencode(os.sep)))
        if is_folder:
            path = os.path.join(path, b"")  # noqa: PTH118
        # The name of a link may be the start of other names; what it leads to is a folder.
        if is_folder or os.path.islink(path):  # noqa: PTH114
            resolved = os.path.join(resolved, b"")  # noqa: PTH118
        return self._store.ids_under(path, resolved, name)

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
            path, metadata, content = self._store.describe(int(item))
            hits.append(IndexHit(os.fsdecode(path), float(score), metadata, content))
        return hits
