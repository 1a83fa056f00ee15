"""What an index is asked: texts, images, vectors and its own items, as unit rows."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..errors import StoreError, VectorError, short
from ..images.inputs import ImageInput, describe, is_one_image
from ..scoring.vectors import Floats, normalize


@dataclass(frozen=True)
class Like:
    """An item of an index as a query: asks for what is similar to it, and embeds nothing.

    Attributes:
        item: A photo's path, or the id that a vector was added under.
    """

    item: str


Part: TypeAlias = str | ImageInput | NDArray[np.floating[Any]] | Like


class Mix:
    """Several texts, pictures and vectors as one query, each with its weight.

    Its vector is that of ``sum of weight * u``, made of length 1, where u is the part's vector of
    length 1. A weight below 0 leads away from its part. In most models pictures lie nearer to
    pictures than texts do, so that a picture moves an answer more than a text of the same weight.

    Args:
        parts: Pairs of a part, which is what a query may be, and its weight.

    Raises:
        VectorError: No parts, or a weight that is no finite number.

    Examples:
        >>> clip = bareclip.load()
        >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
        ...     index.add(["cat", "dog"], clip.embed_images(photos))
        ...     index.search(bareclip.Mix(("an animal", 1), ("a cat", -0.5)), k=1)[0].item
        'dog'
    """

    def __init__(self, *parts: tuple[Part, float]) -> None:
        for part in parts:
            if not isinstance(part, tuple) or len(part) != 2 or not _is_weight(part[1]):
                raise VectorError(
                    f"a part of a Mix is {short(part)}; give pairs of a query and a finite weight"
                )
        if not parts:
            raise VectorError('a Mix has no parts; give pairs, as Mix(("beach", 1), (photo, 0.5))')
        self.parts = parts

    def __repr__(self) -> str:
        return f"Mix({', '.join(f'({short(part)}, {weight})' for part, weight in self.parts)})"


Query: TypeAlias = Part | Mix


def several_queries(queries: Iterable[Query]) -> list[Query]:
    """Queries as a list.

    Raises:
        VectorError: It is one query where several are meant.
    """
    if isinstance(queries, np.ndarray):
        # Rows are vectors, (N, H, W, 3) are images, and what is neither are texts or paths.
        one = queries.ndim != {"f": 2, "u": 4}.get(queries.dtype.kind, 1)
    else:
        one = isinstance(queries, Mapping | Like | Mix) or is_one_image(queries)
    if one:
        shown = short(queries) if isinstance(queries, str | Like | Mix) else describe(queries)
        raise VectorError(f"queries must be several; for one, here {shown}, pass [query]")
    return [*queries]


def parts_of(query: Query) -> Sequence[tuple[Part, float]]:
    """What a query is made of, with weights."""
    return query.parts if isinstance(query, Mix) else [(query, 1)]


def query_rows(
    queries: Sequence[Query],
    clip: Clip | None,
    width: int,
    known: Mapping[Like, NDArray[np.float32]] | None = None,
) -> NDArray[np.float64]:
    """Embeds what is no vector yet.

    Args:
        queries: Q of them: a string is a text, an array of floats a vector, others images.
        clip: The model; None where all of them must be vectors.
        width: Of a vector.
        known: Vectors of items; None where there is no index that they could be in.

    Returns:
        (Q, D) unit rows.

    Raises:
        StoreError: Not all are vectors, and there is no model.
        ImageError, VectorError: One cannot be used.
    """
    if not any(isinstance(query, Mix) for query in queries):
        return _part_rows(cast(Sequence[Part], queries), clip, width, known)
    weighted = [parts_of(query) for query in queries]
    made = _part_rows([part for parts in weighted for part, _ in parts], clip, width, known)
    rows = np.empty((len(queries), width))
    start = 0
    for place, parts in enumerate(weighted):
        own = made[start : start + len(parts)]
        rows[place] = _mixed(own, parts) if isinstance(queries[place], Mix) else own[0]
        start += len(parts)
    return rows


def _mixed(rows: NDArray[np.float64], parts: Sequence[tuple[Part, float]]) -> Floats:
    weights = np.array([weight for _, weight in parts], np.float64)
    total = (weights[:, None] * rows).sum(axis=0)
    if np.linalg.norm(total) <= 1e-6 * np.abs(weights).sum():
        raise VectorError("the parts of a Mix cancel each other out; give other weights")
    return normalize(total)


def _part_rows(
    queries: Sequence[Part],
    clip: Clip | None,
    width: int,
    known: Mapping[Like, NDArray[np.float32]] | None,
) -> NDArray[np.float64]:
    rows = np.empty((len(queries), width))
    for i, query in enumerate(queries):
        if isinstance(query, Like):
            if known is None:
                raise StoreError(f"{short(query)} is of an index, and this is none")
            rows[i] = normalize(known[query].astype(np.float64))
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


def likes_of(query: Query) -> list[Like]:
    """The items of an index that a query is made of."""
    return [part for part, _ in parts_of(query) if isinstance(part, Like)]


def file_keys(query: Query) -> list[bytes]:
    """The keys, in a store, of the files that are parts of a query."""
    return [
        os.path.realpath(os.fsencode(part))
        for part, _ in parts_of(query)
        if isinstance(part, os.PathLike)
    ]


def is_image(query: Query) -> bool:
    """Whether a query, or a part of it, is a picture: neither a text, a vector nor an item."""
    return any(
        not isinstance(part, str | Like) and not _is_vector(part) for part, _ in parts_of(query)
    )


def _is_weight(given: object) -> bool:
    return isinstance(given, int | float | np.number) and math.isfinite(float(given))


def _is_vector(query: Query) -> bool:
    return isinstance(query, np.ndarray) and query.dtype.kind == "f"
