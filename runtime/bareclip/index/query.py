"""What an index is asked, and given: texts, images and vectors, as unit rows."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..clip import Clip
from ..errors import StoreError, VectorError, short
from ..images.inputs import ImageInput, describe, is_one_image
from ..scoring.vectors import Floats, normalize

Query: TypeAlias = str | ImageInput | NDArray[np.floating[Any]]
# Ids, vectors and metadata, as ``Index.add`` takes them.
Batch: TypeAlias = tuple[
    Iterable[str],
    ArrayLike | Iterable[ArrayLike],
    Iterable[Mapping[str, Any] | None] | None,
]


def several_queries(queries: Iterable[Query]) -> list[Query]:
    """Queries as a list.

    Raises:
        VectorError: It is one query where several are meant.
    """
    if isinstance(queries, np.ndarray):
        # Rows are vectors, (N, H, W, 3) are images, and what is neither are texts or paths.
        one = queries.ndim != {"f": 2, "u": 4}.get(queries.dtype.kind, 1)
    else:
        one = isinstance(queries, Mapping) or is_one_image(queries)
    if one:
        shown = short(queries) if isinstance(queries, str) else describe(queries)
        raise VectorError(f"queries must be several; for one, here {shown}, pass [query]")
    return [*queries]


def query_rows(queries: Sequence[Query], clip: Clip | None, width: int) -> NDArray[np.float64]:
    """Embeds what is no vector yet.

    Args:
        queries: Q of them: a string is a text, an array of floats a vector, others images.
        clip: The model; None where all of them must be vectors.
        width: Of a vector.

    Returns:
        (Q, D) unit rows.

    Raises:
        StoreError: Not all are vectors, and there is no model.
        ImageError, VectorError: One cannot be used.
    """
    rows = np.empty((len(queries), width))
    vectors = [i for i, query in enumerate(queries) if _is_vector(query)]
    texts = [i for i, query in enumerate(queries) if isinstance(query, str)]
    images = [i for i, query in enumerate(queries) if is_image(query)]
    for i in vectors:
        vector = np.asarray(queries[i])
        if vector.shape != (width,) or not np.isfinite(vector).all():
            raise VectorError(f"a query vector is {vector.shape}; give ({width},) finite numbers")
        rows[i] = normalize(vector)
    if (texts or images) and clip is None:
        raise StoreError(
            "the index was opened without a model, so that it can be asked by vector only; "
            "open it with one: bareclip.Index.open(path, bareclip.load(bundle))"
        )
    if texts and clip:
        rows[texts] = clip.embed_texts([cast(str, queries[i]) for i in texts])
    if images and clip:
        rows[images] = clip.embed_images([cast(ImageInput, queries[i]) for i in images])
    return rows


def rows_to_add(
    ids: Iterable[str],
    vectors: ArrayLike | Iterable[ArrayLike],
    metadata: Iterable[Mapping[str, Any] | None] | None,
    width: int,
) -> list[tuple[bytes, NDArray[np.float32], str | None]]:
    """Names, unit rows and JSON of what ``Index.add`` is given.

    Raises:
        VectorError: Vectors, ids or metadata that do not fit.
    """
    names = [_name(one) for one in _several(ids, "ids", "string")]
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


def _name(given: object) -> bytes:
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


def file_key(query: Query) -> bytes | None:
    """The key, in a store, of the file that a query is; None if it is none."""
    return os.path.realpath(os.fsencode(query)) if isinstance(query, os.PathLike) else None


def is_image(query: Query) -> bool:
    """Whether a query is a picture, neither a text nor a vector."""
    return not isinstance(query, str) and not _is_vector(query)


def _is_vector(query: Query) -> bool:
    return isinstance(query, np.ndarray) and query.dtype.kind == "f"
