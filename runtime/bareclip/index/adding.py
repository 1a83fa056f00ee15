"""What an index is given from elsewhere: ids, vectors and metadata, as rows of its store."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import VectorError, short
from ..scoring.vectors import Floats, normalize

# Ids, vectors and metadata, as ``Index.add`` takes them.
Batch: TypeAlias = tuple[
    Iterable[str],
    ArrayLike | Iterable[ArrayLike],
    Iterable[Mapping[str, Any] | None] | None,
]
# A name, its unit row, and JSON.
NewItem: TypeAlias = tuple[bytes, NDArray[np.float32], str | None]


def items_to_add(batches: Iterable[Batch], width: int) -> Iterator[list[NewItem]]:
    """Batches as the store takes them.

    Raises:
        VectorError: Vectors, ids or metadata that do not fit, or an id that was there.
    """
    names: set[bytes] = set()
    for batch in batches:
        items = _items_of(*batch, width)
        for name, _, _ in items:
            if name in names:
                raise VectorError(f"id {os.fsdecode(name)!r} is there twice; ids must be distinct")
            names.add(name)
        yield items


def _items_of(
    ids: Iterable[str],
    vectors: ArrayLike | Iterable[ArrayLike],
    metadata: Iterable[Mapping[str, Any] | None] | None,
    width: int,
) -> list[NewItem]:
    """Names, unit rows and JSON of what ``Index.add`` is given.

    Raises:
        VectorError: Vectors, ids or metadata that do not fit.
    """
    names = [item_name(one) for one in _several(ids, "ids", "string")]
    rows = _unit_rows(vectors, width)
    given: list[Any] = [None] * len(names)
    if metadata is not None:
        given = _several(metadata, "metadata", "object")
    if not len(names) == len(rows) == len(given):
        raise VectorError(
            f"{len(names)} ids, {len(rows)} vectors and {len(given)} metadata: "
            "give one of each for each item"
        )
    try:
        texts = [
            None if data is None else json.dumps(dict(data), allow_nan=False) for data in given
        ]
    except (TypeError, ValueError, RecursionError) as error:
        raise VectorError(f"metadata must be objects that JSON can hold: {error}") from error
    return list(zip(names, rows, texts, strict=True))


def _several(given: Iterable[Any], what: str, kind: str) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__iter__"):
        one = "one string" if isinstance(given, str) else short(given)
        raise VectorError(f"{what} are {one}; give a list of {kind}s, one for each vector")
    return [*given]


def item_name(given: object) -> bytes:
    if not isinstance(given, str) or not given:
        raise VectorError(f"id {short(given)} is no name; ids must be strings that are not empty")
    try:
        # As the system's file names: a byte that is not UTF-8 is half of a surrogate pair.
        return given.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise VectorError(
            f"id {short(given)} holds half of a surrogate pair; "
            "ids must be text that UTF-8 can hold"
        ) from error


def _unit_rows(vectors: ArrayLike | Iterable[ArrayLike], width: int) -> NDArray[np.float32]:
    # Rows of length 1 keep their bits, as an export gives them.
    try:
        rows = np.asarray(vectors)
        if rows.dtype == object and isinstance(vectors, Iterable):  # a generator, or a Series
            several = [*vectors]
            rows = np.asarray(several) if several else np.empty((0, width))
    except (TypeError, ValueError) as error:
        raise VectorError(f"vectors are no numbers ({error}); give (N, {width})") from error
    if rows.shape == (0,):  # an empty list
        rows = np.empty((0, width))
    if rows.ndim != 2 or rows.shape[1] != width or rows.dtype.kind not in "fiu":
        raise VectorError(f"vectors are {rows.dtype} {rows.shape}; give (N, {width}) numbers")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise VectorError("a vector is zero or not finite; it has no direction to compare")
    is_unit = np.abs(lengths - 1) < 1e-5
    unit: Floats = np.where(is_unit[:, None], rows, normalize(rows))
    return unit.astype(np.float32)
