"""What an index is asked, and given: texts, images and vectors, as unit rows."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..clip import Clip
from ..errors import StoreError, VectorError
from ..image_input import ImageInput
from ..similarity import Floats, normalize

Query: TypeAlias = str | ImageInput | NDArray[np.floating[Any]]


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
    images = [i for i in range(len(queries)) if i not in {*vectors, *texts}]
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


def unit_rows(vectors: ArrayLike, width: int) -> NDArray[np.float32]:
    """Rows to be stored; those of length 1 keep their bits, as an export gives them.

    Raises:
        VectorError: Not (N, width) numbers, or one of them has no direction.
    """
    rows = np.asarray(vectors)
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


def _is_vector(query: Query) -> bool:
    return isinstance(query, np.ndarray) and query.dtype.kind == "f"
