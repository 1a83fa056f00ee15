"""Cells of rows that lie near each other, and which rows may be near to one of a cell's.

*Cells* are made by k-means, and each of them again, until few rows are left in one.

*Exclusion.* Let a and b be the centres of two cells, and x and y rows of theirs. By Cauchy and
Schwarz

    x(a - b) + y(b - a)  =  (x - y)(a - b)  <=  |x - y| |a - b|

so that x is farther than t from all rows of b's cell if x(a - b), and the least y(b - a) that a row
of that cell has, are together more than t |a - b|. (Hilbert exclusion, here of single rows: Connor,
Cardillo, Vadicamo and Rabitti, arXiv 1604.08640.) It costs a product of each row with each centre.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Places = NDArray[np.int64]

# Rows of a cell at most, if k-means can tell them apart.
_CELL = 192
# Means that rows are told apart by at a time; rows per mean that they are found from, in rounds.
_MEANS, _SAMPLE, _ROUNDS = 4096, 16, 4
# Cells that rows are held against at a time, and how many rows; products of all these: 8 MB.
_GROUP, _ROWS, _PRODUCTS = 32, 1 << 16, 1 << 21
_CHUNK = 4096
# A product of n numbers of unit vectors, summed in any order, is off by at most n * 2^-24 (Higham,
# Accuracy and Stability of Numerical Algorithms, section 3.1); 8 more for the rounding of the
# numbers themselves, of lengths and of the threshold.
_ULP = 2.0**-24


def margin(width: int) -> float:
    """How far rounding may move a product in float32 of two rows of length 1."""
    return (width + 8) * _ULP


class Cells:
    """Rows of length 1, sorted so that those of a cell lie together.

    Attributes:
        rows: (M, K) the rows, sorted.
        order: (M,) the place that each had.
        starts: (C + 1,) where cells begin, and the end.
    """

    def __init__(self, rows: Rows) -> None:
        """Sorts ``rows``, the very array that is given, into cells."""
        self.order, self.starts = _split(rows)
        # A column at a time: a sorted copy would take the same memory again.
        for column in rows.T:
            column[:] = column[self.order]
        self.rows = rows
        sizes = np.diff(self.starts)
        self._cell = np.repeat(np.arange(len(sizes)), sizes)
        sums = np.add.reduceat(rows, self.starts[:-1], axis=0)
        self._centres: Rows = (sums / sizes[:, None]).astype(np.float32)
        self._own = np.empty(len(rows), np.float32)
        for some in _slices(0, len(rows), _ROWS):
            np.einsum("nd,nd->n", rows[some], self._centres[self._cell[some]], out=self._own[some])

    def reaching(self, threshold: float) -> Iterator[tuple[int, Places]]:
        """Pairs that may reach a threshold: a cell, and places of rows that may with one of its.

        Args:
            threshold: Of the product of two rows; at most 1.

        Yields:
            Cells in their order, each once or more with other rows, ascending. Of two rows only
            the cell of the one that comes first is held against the other.
        """
        apart = np.sqrt(2 - 2 * threshold)
        for group in _slices(0, len(self._centres), _GROUP):
            first = group.start
            later = self._centres[first:]
            # Four products, of rows with centres, which are no longer than 1; and their sum.
            slack = 5 * margin(self.rows.shape[1])
            most = apart * _distances(later, self._centres[group]) - self._ahead(group).T + slack
            within = most.astype(np.float32)
            for some in _slices(self.starts[first], len(self.rows), _ROWS):
                least = within[self._cell[some] - first]
                np.subtract(self._own[some, None], least, out=least)
                row, cell = np.nonzero(self.rows[some] @ self._centres[group].T >= least)
                by_cell = np.argsort(cell.astype(np.uint16), kind="stable")
                ends = np.cumsum(np.bincount(cell, minlength=group.stop - first))
                for number, own in enumerate(np.split(row[by_cell], ends[:-1]), start=first):
                    places = some.start + own
                    places = places[np.searchsorted(places, self.starts[number]) :]
                    if len(places):
                        yield number, places

    def _ahead(self, group: slice) -> Rows:
        """How far the row of a cell that is least so lies from other centres towards its own.

        Returns:
            (G, C - first), for each cell of the group and each centre from its first on.
        """
        later = self._centres[group.start :]
        found = np.full((group.stop - group.start, len(later)), np.inf, np.float32)
        for number, least in enumerate(found, start=group.start):
            for some in _slices(self.starts[number], self.starts[number + 1], _CHUNK):
                ahead = self.rows[some] @ later.T
                np.subtract(self._own[some, None], ahead, out=ahead)
                np.minimum(least, ahead.min(axis=0), out=least)
        return found


def _distances(left: Rows, right: Rows) -> NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    found: NDArray[np.float64] = np.sqrt(np.maximum(0, squares))
    return found


def _split(rows: Rows) -> tuple[Places, Places]:
    """An order of rows in which cells lie together, and where these begin and the last ends."""
    rng = np.random.default_rng(0)
    order = np.arange(len(rows))
    left, starts = [(0, len(rows))], []
    while left:
        start, end = left.pop()
        own = order[start:end]
        parts = _parts(rows, own, rng) if len(own) > _CELL else own[None]
        if len(parts) == 1:
            starts.append(start)
            continue
        order[start:end] = np.concatenate(parts)
        ends = start + np.cumsum([len(part) for part in parts])
        left += zip([start, *ends[:-1].tolist()], ends.tolist(), strict=True)
    return order, np.append(np.sort(starts), len(rows))


def _parts(rows: Rows, own: Places, rng: np.random.Generator) -> list[Places]:
    """Those at the places ``own``, by the nearest of some means: Lloyd's k-means on a sample."""
    count = min(_MEANS, 2 * len(own) // _CELL)
    sample = rng.choice(own, min(len(own), _SAMPLE * count), replace=False)
    means = rows[sample[:count]]
    for _ in range(_ROUNDS):
        nearest = _nearest(rows, sample, means)
        sizes = np.bincount(nearest, minlength=count)
        there = np.flatnonzero(sizes)
        starts = np.append(0, np.cumsum(sizes[there])[:-1])
        sums = np.add.reduceat(rows[sample[np.argsort(nearest, kind="stable")]], starts, axis=0)
        means[there] = sums / sizes[there, None]
    nearest = _nearest(rows, own, means)
    ends = np.cumsum(np.bincount(nearest, minlength=count))[:-1]
    parts = np.split(own[np.argsort(nearest, kind="stable")], ends)
    return [part for part in parts if len(part)]


def _nearest(rows: Rows, own: Places, means: Rows) -> Places:
    """The nearest mean of each row at the places ``own``."""
    half = (means * means).sum(axis=1) / 2
    found = np.empty(len(own), np.int64)
    for some in _slices(0, len(own), max(1, _PRODUCTS // len(means))):
        found[some] = (rows[own[some]] @ means.T - half).argmax(axis=1)
    return found


def _slices(start: int, end: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, end)) for at in range(start, end, step))
