"""Groups of nearly equal vectors, exactly: no pair over the threshold is missed, none is made up.

All pairs of a million rows are 5e11 products of 512 numbers, an hour of two cores; nearly all of
them can be told from far less:

1. *Folding.* In the basis of the rows' second moments a row is the prefix of its first 63 numbers
   and a rest. By Cauchy and Schwarz, a product is at most that of the prefixes and that of the
   rests' lengths; so a row is folded to 64 numbers, the prefix and the rest's length, and the
   product of two folded rows is never below that of the rows. (As FEXIPRO prunes: Li, Chan, Yiu and
   Mamoulis, SIGMOD 2017.)
2. *Cells.* Folded rows are sorted by the nearest of some centres. The direction from a centre b to
   a centre a tells rows of their cells apart: if the row of a's cell that lies farthest back on it
   and the row of b's that lies farthest ahead are farther from each other than vectors over the
   threshold are, no pair of the two cells is looked at. (Hilbert exclusion: Connor, Cardillo,
   Vadicamo and Rabitti, arXiv 1604.08640.)
3. *Products* of folded rows in blocks that a cache holds; where one reaches the threshold, of whole
   rows in float32; where that is within its rounding error of the threshold, in float64.

Pairs are not kept: each joins two sets of rows at once. Memory is 64 numbers per row, beside the
rows themselves, which may lie in a mapped file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .disjoint_sets import DisjointSets
from .vectors import normalize

Rows = NDArray[np.float32]
Places = NDArray[np.int64]

_FOLDED = 64
# Rows whose second moments give the basis; rows per centre whose means give the centres.
_BASIS_ROWS, _CENTRE_ROWS = 1 << 14, 16
_CELL, _MOST_CELLS = 128, 4096
_ROUNDS = 4
# A block of products has so many rows and columns at most: 8 MB.
_BLOCK, _BLOCK_COLUMNS = 512, 4096
_CHUNK = 4096
# A product of n numbers of unit vectors, summed in any order, is off by at most n * 2^-24 (Higham,
# Accuracy and Stability of Numerical Algorithms, section 3.1); 8 more for the rounding of the
# numbers themselves, of lengths and of the threshold.
_ULP = 2.0**-24


@dataclass(frozen=True)
class NearGroup:
    """A row, and those that are as near to it as was asked.

    Attributes:
        first: Its place.
        others: (K,) their places, the nearest first, ties by place; K is at least 1.
        similarities: (K,) their cosines with it.
    """

    first: int
    others: Places
    similarities: NDArray[np.float64]


def near_groups(
    parts: Sequence[Rows],
    places: Places,
    threshold: float,
    rank: NDArray[np.int64],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[NearGroup]:
    """Groups around their best rows: best first, each takes what is near and not yet taken.

    So every row of a group is as near to its first as was asked, which chains of pairs would not
    promise; and two first rows are never that near.

    Args:
        parts: Arrays (N_i, D) of rows of about unit length, counted through as N rows.
        places: (M,) of the rows that count, ascending.
        threshold: The least cosine, above 0 and at most 1.
        rank: (M,) the order in which rows are best, the least first; ties by place.
        report: Called with how many rows are done, and how many there are.

    Yields:
        Groups of two rows or more, in the order of their first rows' sets.
    """
    for members in _connected(parts, places, threshold, report):
        order = np.lexsort((members, rank[members]))
        left = members[order]
        while len(left) > 1:
            first, rest = left[0], left[1:]
            cosines = _cosines_with(parts, places[first], places[rest], threshold)
            near = cosines >= threshold
            if near.any():
                others, found = places[rest[near]], cosines[near]
                nearest = np.lexsort((others, -found))
                yield NearGroup(int(places[first]), others[nearest], found[nearest])
            left = rest[~near]


def take_rows(parts: Sequence[Rows], places: Places) -> Rows:
    """Rows at places in any order, (len(places), D)."""
    rows = np.empty((len(places), parts[0].shape[1]), np.float32)
    start = 0
    for part in parts:
        mine = (places >= start) & (places < start + len(part))
        rows[mine] = part[places[mine] - start]
        start += len(part)
    return rows


def cosines(left: Rows, right: Rows) -> NDArray[np.float64]:
    """Cosines of rows with rows, pair by pair, in float64; exactly 1 of equal ones."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    # The root of a square is the number itself, and that of a product of two roots is not.
    lengths = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    found: NDArray[np.float64] = (a * b).sum(axis=-1) / lengths
    return found


def _cosines_with(
    parts: Sequence[Rows], place: int, places: Places, threshold: float
) -> NDArray[np.float64]:
    """Of a row with others: in float64 where they may reach the threshold, else about."""
    [one] = _units(parts, np.array([place]))
    found = np.empty(len(places))
    for start in range(0, len(places), _CHUNK):
        some = places[start : start + _CHUNK]
        rows = _units(parts, some)
        about = (rows @ one).astype(np.float64)
        may = about >= threshold - _margin(rows.shape[1])
        about[may] = cosines(take_rows(parts, some[may]), take_rows(parts, np.array([place])))
        found[start : start + _CHUNK] = about
    return found


def _connected(
    parts: Sequence[Rows],
    places: Places,
    threshold: float,
    report: Callable[[int, int], None],
) -> Iterator[Places]:
    """Sets of two rows or more that pairs over the threshold connect; as indices of ``places``."""
    if len(places) < 2:
        return
    cells = _Cells(_folded(parts, places))
    near = cells.near(threshold)
    sets = DisjointSets(len(places))
    least = threshold - _margin(_FOLDED)
    starts = np.append(cells.starts, len(places))
    for number, cell in enumerate(cells.of_piece):
        rows = slice(starts[number], starts[number + 1])
        for first, last in _runs(near[cell, cells.of_piece[number:]]):
            begin, end = starts[number + first], starts[number + last]
            for column in range(begin, end, _BLOCK_COLUMNS):
                columns = slice(column, min(column + _BLOCK_COLUMNS, end))
                bound = cells.rows[rows] @ cells.rows[columns].T
                # One fast pass over most blocks.
                if bound.max() >= least:
                    left, right = cells.order[rows], cells.order[columns]
                    _join(sets, parts, places, left, right, bound >= least, threshold)
        report(int(rows.stop), len(places))
    yield from sets.several()


def _join(
    sets: DisjointSets,
    parts: Sequence[Rows],
    places: Places,
    left: Places,
    right: Places,
    may: NDArray[np.bool_],
    threshold: float,
) -> None:
    """Joins the sets of rows that reach the threshold, of pairs that may."""
    may &= sets.roots(left)[:, None] != sets.roots(right)
    rows, columns = np.flatnonzero(may.any(axis=1)), np.flatnonzero(may.any(axis=0))
    if not len(rows):
        return
    left, right = left[rows], right[columns]
    products = _units(parts, places[left]) @ _units(parts, places[right]).T
    margin = _margin(parts[0].shape[1])
    a, b = np.nonzero(may[np.ix_(rows, columns)] & (products >= threshold - margin))
    sure = products[a, b] >= threshold + margin
    close = np.flatnonzero(~sure)
    for start in range(0, len(close), _CHUNK):
        some = close[start : start + _CHUNK]
        pairs = places[left[a[some]]], places[right[b[some]]]
        sure[some] = cosines(*(take_rows(parts, one) for one in pairs)) >= threshold
    sets.join(left[a[sure]], right[b[sure]])


def _margin(width: int) -> float:
    return (width + 8) * _ULP


def _units(parts: Sequence[Rows], places: Places) -> Rows:
    rows = take_rows(parts, places)
    return rows / np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None].astype("f4")


def _folded(parts: Sequence[Rows], places: Places) -> Rows:
    """Rows as their prefix in the basis and the length of their rest; of length 1."""
    sample = _units(parts, places[:: max(1, len(places) // _BASIS_ROWS)])
    _, vectors = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
    basis = vectors[:, ::-1][:, : _FOLDED - 1]
    folded = np.zeros((len(places), basis.shape[1] + 1), np.float32)
    for start in range(0, len(places), _CHUNK):
        rows = take_rows(parts, places[start : start + _CHUNK]).astype(np.float64)
        rows /= np.sqrt((rows * rows).sum(axis=1))[:, None]
        prefix = rows @ basis
        rest = np.sqrt(np.maximum(0, 1 - (prefix * prefix).sum(axis=1)))
        folded[start : start + len(rows), :-1] = prefix
        folded[start : start + len(rows), -1] = rest
    return folded


class _Cells:
    """Folded rows, sorted by the nearest centre.

    Attributes:
        rows: (M, 64) the folded rows, sorted.
        order: (M,) where each was.
        starts: (P,) where the pieces begin that cells are cut into, each of a block's rows at most.
        of_piece: (P,) the cell of each piece.
    """

    def __init__(self, folded: Rows) -> None:
        count = int(np.clip(len(folded) // _CELL, 1, _MOST_CELLS))
        self._centres = _centres(folded[:: max(1, len(folded) // (count * _CENTRE_ROWS))], count)
        own = np.concatenate([_nearest(chunk, self._centres) for chunk in _chunks(folded)])
        self.order = np.argsort(own, kind="stable")
        self.rows = folded[self.order]
        self._bounds = np.searchsorted(own[self.order], np.arange(count + 1))
        pieces = [
            (start, cell)
            for cell in range(count)
            for start in range(self._bounds[cell], self._bounds[cell + 1], _BLOCK)
        ]
        self.starts, self.of_piece = np.array(pieces).T

    def near(self, threshold: float) -> NDArray[np.bool_]:
        """(C, C) whether two cells may hold rows whose product reaches the threshold."""
        centres = self._centres
        least = np.full((len(centres), len(centres)), np.inf, np.float32)
        for cell, (start, end) in enumerate(zip(self._bounds, self._bounds[1:], strict=False)):
            # How far ahead, from every other centre to this, the row is that is least so.
            for chunk in _chunks(self.rows[start:end]):
                products = chunk @ centres.T
                ahead = (products[:, cell, None] - products).min(axis=0)
                least[cell] = np.minimum(least[cell], ahead)
        exact = centres.astype(np.float64)
        squares = (exact * exact).sum(axis=1)
        near = np.empty(least.shape, np.bool_)
        for start in range(0, len(centres), _BLOCK):
            rows = slice(start, start + _BLOCK)
            apart = np.maximum(0, squares[rows, None] + squares - 2 * exact[rows] @ exact.T)
            farthest = np.sqrt(2 - 2 * threshold) * np.sqrt(apart)
            # Of four products of rows with centres, no longer than 1.
            near[rows] = least[rows] + least[:, rows].T <= farthest + 4 * _margin(_FOLDED)
        return near


def _centres(sample: Rows, count: int) -> Rows:
    """Unit means of rows that are near each other: some rounds of spherical k-means."""
    centres = sample[:: max(1, len(sample) // count)][:count]
    for _ in range(_ROUNDS):
        own = np.concatenate([_nearest(chunk, centres) for chunk in _chunks(sample)])
        order = np.argsort(own, kind="stable")
        starts = np.searchsorted(own[order], np.arange(count))
        filled = np.bincount(own, minlength=count) > 0
        sums = np.add.reduceat(sample[order], starts[filled], axis=0)
        centres = centres.copy()
        centres[filled] = normalize(sums)
    return centres


def _nearest(rows: Rows, centres: Rows) -> Places:
    return (rows @ centres.T).argmax(axis=1)


def _chunks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _runs(wanted: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where runs of what is wanted begin and end."""
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    return zip(edges[::2], edges[1::2], strict=True)
