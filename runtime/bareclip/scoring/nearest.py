"""Exact nearest neighbours, on arrays only: as a full sort in float64 would answer.

One pass of float32 products finds every row that can be among the k nearest, given how far
rounding can move a product; those few are scored again in float64.
"""

import weakref
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .vectors import UNIT_TOLERANCE, Floats, unit_rows

# Scores held at a time, for all the queries of a pass: 64 MB.
_SCORES = 1 << 24
_ROWS = 4096
# Arrays that were found to be unit rows, by id, for as long as they live.
_UNIT: dict[int, "weakref.ref[NDArray[np.float32]]"] = {}
_SAMPLE = 1024


def nearest(
    parts: Sequence[NDArray[np.float32]],
    queries: Floats,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The rows with the largest products with each query.

    Args:
        parts: Arrays (N_i, D) of unit rows, counted through as one array of N rows.
        queries: (Q, D) unit rows.
        k: How many rows at most.
        allowed: (N,) which rows may be found; None allows all.

    Returns:
        For each query the rows' places and products, best first, ties by place. Rows that hold
        NaN or infinity are not found.
    """
    total = sum(len(part) for part in parts)
    found = []
    step = max(1, _SCORES // max(1, total))
    for start in range(0, len(queries), step):
        group = queries[start : start + step].astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            scores = np.concatenate([group @ part.T for part in parts], axis=1)
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        for query, row in zip(queries[start : start + step], scores, strict=True):
            found.append(_settle(parts, query.astype(np.float64), row, k))
    return found


def corpus_rows(vectors: ArrayLike, width: int) -> NDArray[np.float32]:
    """Unit rows to ask ``nearest`` about, at no cost where the same array is given again.

    Args:
        vectors: (N, width). A float32 array of unit rows is returned as it is; that it is one
            is checked whole the first time, and by a sample of its rows from then on.
        width: Of the model's vectors.

    Raises:
        VectorError: As ``unit_rows`` raises.
    """
    known = _UNIT.get(id(vectors))
    if known is not None and known() is vectors and _looks_unit(vectors, width):
        return vectors
    rows = unit_rows(vectors, "vectors", width).astype(np.float32, copy=False)
    if rows is vectors:
        key = id(vectors)
        _UNIT[key] = weakref.ref(vectors, lambda _: _UNIT.pop(key, None))
    return rows


def _looks_unit(rows: NDArray[np.float32], width: int) -> bool:
    if rows.ndim != 2 or rows.shape[1] != width:
        return False
    some = rows[:: max(1, len(rows) // _SAMPLE)]
    lengths = np.sqrt(np.einsum("nd,nd->n", some, some))
    return bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all())


def dot_products(
    parts: Sequence[NDArray[np.float32]], query: Floats, places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The products of some rows with a query, in float64, the same for equal rows."""
    # Not a matrix product: BLAS sums the last rows of an array in another order than the
    # others, so that equal rows would differ in the last bit.
    scores = [(rows * query).sum(axis=1) for rows in _rows(parts, places)]
    return np.concatenate(scores) if scores else np.empty(0)


def _settle(
    parts: Sequence[NDArray[np.float32]],
    query: NDArray[np.float64],
    scores: NDArray[np.float32],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # Sorted as they are, NaN would come before all numbers and take their places.
    usable = np.isfinite(scores)
    count = int(np.count_nonzero(usable))
    if count < len(scores):
        scores = np.where(usable, scores, -np.inf)
    k = min(k, count)
    if k == 0:
        return np.empty(0, np.int64), np.empty(0)
    last = np.partition(scores, len(scores) - k)[len(scores) - k]
    # A product of D terms of unit vectors, summed in any order, is off by at most D·2⁻²⁴
    # (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Twice that: for
    # the row that was last in, and for the one to be let in. 8 more for the rounding of the
    # query, of lengths and of this very difference.
    margin = 2.02 * (len(query) + 8) * 2.0**-24
    places = np.flatnonzero(scores >= last - np.float32(margin))
    exact = dot_products(parts, query, places)
    order = np.lexsort((places, -exact))[:k]
    return places[order], exact[order]


def _rows(
    parts: Sequence[NDArray[np.float32]], places: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """Rows at ascending places, in float64, some thousand at a time."""
    start = 0
    for part in parts:
        mine = places[(places >= start) & (places < start + len(part))] - start
        for first in range(0, len(mine), _ROWS):
            yield part[mine[first : first + _ROWS]].astype(np.float64)
        start += len(part)
