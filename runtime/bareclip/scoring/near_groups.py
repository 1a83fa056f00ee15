"""Groups of nearly equal vectors, exactly: no pair over the threshold is missed, none is made up.

All pairs of a million rows are 5e11 products of 512 numbers, an hour of two cores; nearly all of
them can be told from far less:

1. *Folding.* In the basis of the rows' second moments a row is the prefix of its first 63 numbers
   and a rest. By Cauchy and Schwarz, a product is at most that of the prefixes and that of the
   rests' lengths; so a row is folded to 64 numbers, the prefix and the rest's length, and the
   product of two folded rows is never below that of the rows. (As FEXIPRO prunes: Li, Chan, Yiu and
   Mamoulis, SIGMOD 2017.)
2. *Cells* of folded rows: a row is only held against those of cells that it may be near to, as
   ``cells`` has it.
3. *Products* of folded rows in blocks that a cache holds; where one reaches the threshold, of whole
   rows in float32; where that is within its rounding error of the threshold, in float64.

Pairs are not kept: each joins two sets of rows at once. Memory is 64 numbers per row, beside the
rows themselves, which may lie in a mapped file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cells import Cells, Places, Rows, margin
from .disjoint_sets import DisjointSets

_FOLDED = 64
# Rows whose second moments give the basis.
_BASIS_ROWS = 1 << 14
# A block of products has so many columns, and so many products, at most: 8 MB.
_COLUMNS, _BLOCK = 512, 1 << 21
_CHUNK = 4096


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
        may = about >= threshold - margin(rows.shape[1])
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
    cells = Cells(_folded(parts, places))
    sets = DisjointSets(len(places))
    least = threshold - margin(_FOLDED)
    for cell, reaching in cells.reaching(threshold):
        start, end = cells.starts[cell], cells.starts[cell + 1]
        report(int(start), len(places))
        for column in range(start, end, _COLUMNS):
            columns = slice(column, min(column + _COLUMNS, end))
            step = _BLOCK // (columns.stop - columns.start)
            for first in range(0, len(reaching), step):
                some = reaching[first : first + step]
                bound = cells.rows[some] @ cells.rows[columns].T
                # One fast pass over most blocks.
                if bound.max() >= least:
                    near = np.flatnonzero(bound.max(axis=1) >= least)
                    left, right = cells.order[some[near]], cells.order[columns]
                    _join(sets, parts, places, left, right, bound[near] >= least, threshold)
    report(len(places), len(places))
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
    error = margin(parts[0].shape[1])
    a, b = np.nonzero(may[np.ix_(rows, columns)] & (products >= threshold - error))
    sure = products[a, b] >= threshold + error
    close = np.flatnonzero(~sure)
    for start in range(0, len(close), _CHUNK):
        some = close[start : start + _CHUNK]
        pairs = places[left[a[some]]], places[right[b[some]]]
        sure[some] = cosines(*(take_rows(parts, one) for one in pairs)) >= threshold
    sets.join(left[a[sure]], right[b[sure]])


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
