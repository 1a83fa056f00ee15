"""Search over the parts of a run, exact as the photo index is, a part in memory at a time."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..clip import Clip
from ..encoders.fingerprint import Fingerprint
from ..errors import ShardError, VectorError
from ..index.query import Query, is_image, query_rows, several_queries
from ..scoring.nearest import nearest
from ..scoring.vectors import Floats, unit_rows
from ..types import Hit
from .engines import finished
from .model import check_model, read_model
from .plans import Plan

# Parts that are read at a time.
_PARTS = 4
# Rows of a part that are scored at a time.
_ROWS = 16_384


def search(
    out: str | os.PathLike[str] | Plan,
    queries: Sequence[Query],
    clip: Clip | None = None,
    *,
    k: int = 10,
) -> list[list[Hit[str]]]:
    """The pictures of a run that are most similar to texts, pictures or vectors.

    Exact, and in memory that does not grow with the run: every vector is read from its part.

    Args:
        out: The run's folder, or its plan; what is done so far is searched.
        queries: Several: a string is a text, an array of floats a vector, others are images.
        clip: The run's model; None where all queries are vectors.
        k: How many hits at most.

    Returns:
        For each query its hits by key, best first; ties in the order of the run.

    Raises:
        ShardError: No run there, nothing done yet, another model, or a part is damaged.
        ImageError, VectorError: A query cannot be used.

    Examples:
        >>> clip, plan = bareclip.load(), shards.plan("photos", "OUT")
        >>> _ = list(shards.run(plan, clip))
        >>> [[best]] = shards.search("OUT", ["a cat"], clip, k=1)
        >>> best.item.rpartition("/")[2]
        'cat.png'
    """
    if type(k) is not int or k < 0:
        raise VectorError(f"k is {k!r}; it must be 0 or more")
    plan = out if isinstance(out, Plan) else Plan.read(out)
    model = read_model(plan)
    done = sorted(finished(plan))
    if model is None or not done:
        raise ShardError(
            f"{plan.out} holds no vectors yet; make them with: bareclip shards run {plan.out}"
        )
    asked = several_queries(queries)
    if clip is not None:
        texts = not any(is_image(query) for query in asked)
        check_model(plan, model, Fingerprint.of(clip, plan.info.decoding), texts=texts)
    rows = query_rows(asked, clip, model.width)
    best: list[list[_Found]] = [[] for _ in asked]
    with ThreadPoolExecutor(_PARTS, "bareclip-search") as pool:
        # Bounded: no part is read far ahead of the one that is being merged.
        for start in range(0, len(done), _PARTS):
            group = done[start : start + _PARTS]
            for several in pool.map(lambda index: _in_part(plan, index, rows, k), group):
                for place, mine in enumerate(several):
                    best[place] = sorted([*best[place], *mine])[:k]
    return [[Hit(one.key, -one.distance) for one in found] for found in best]


@dataclass(frozen=True, order=True)
class _Found:
    """A row that may be among the best; sorts as hits are given.

    Attributes:
        distance: The similarity, negative.
    """

    distance: float
    shard: int
    row: int
    key: str = field(compare=False)


def _in_part(plan: Plan, index: int, rows: Floats, k: int) -> list[list[_Found]]:
    """The best of a part, for each query."""
    best: list[list[_Found]] = [[] for _ in rows]
    before = 0
    part = plan.part(index)
    for batch, vectors in part.batches(["key", "vector"], _ROWS):
        if vectors is None or not len(vectors):
            before += len(batch)
            continue
        where = np.flatnonzero(batch.column("vector").is_valid().to_numpy(zero_copy_only=False))
        unit = unit_rows(vectors, part.place.uri, rows.shape[1]).astype(np.float32, copy=False)
        for place, (places, scores) in enumerate(nearest([unit], rows, k)):
            keys = batch.column("key").take(where[places]).to_pylist()
            best[place] += [
                _Found(-float(score), index, before + int(row), key)
                for score, row, key in zip(scores, where[places], keys, strict=True)
            ]
            best[place] = sorted(best[place])[:k]
        before += len(batch)
    return best
