"""Near-duplicates in an index: photos that show nearly the same, and which of them to keep."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import VectorError
from ..scoring.near_groups import NearGroup, near_groups
from .filters import Filter
from .searching import Searcher
from .store import Store

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Duplicate:
    """A photo of a group, or a vector that was added.

    Attributes:
        item: A photo's path, or the id that a vector was added under.
        similarity: Its cosine with the photo to keep; 1 of that itself.
        width, height: Pixels, as stored; None where it is not known.
        size: Bytes; None of what was added.
        sha256: Of a photo's file, in hexadecimal, when it was indexed; None of what was added.
    """

    item: str
    similarity: float
    width: int | None
    height: int | None
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class DuplicateGroup:
    """Photos that are nearly the same as one of them.

    Attributes:
        keep: The one with the most pixels; of several the one with the most bytes; of these the
            one that was indexed first.
        others: All at least as similar to it as was asked, most similar first.
    """

    keep: Duplicate
    others: list[Duplicate]

    @property
    def saves(self) -> int:
        """Bytes of the others' files."""
        return sum(other.size or 0 for other in self.others)


def find_duplicates(
    store: Store,
    searcher: Searcher,
    threshold: float,
    chosen: Filter,
    report: Progress,
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Ids of each group's item to keep, and of its others with their cosines.

    Groups whose others have the most bytes come first. Within the store's ``reading``.

    Raises:
        VectorError: No threshold.
    """
    if not 0 < threshold <= 1:
        raise VectorError(f"threshold is {threshold}; it must be above 0 and at most 1, as 0.95")
    matrix = searcher.current_matrix()
    places = searcher.places(matrix, chosen)
    # Of all that are in the store now, which of the matrix's rows only the live ones are.
    live = slice(None) if matrix.live is None else matrix.live
    sizes = np.zeros((len(matrix.ids), 2), np.int64)
    sizes[live] = store.items.sizes()
    pixels, size = sizes.T
    rank = np.empty(len(places), np.int64)
    rank[np.lexsort((-size[places], -pixels[places]))] = np.arange(len(places))
    found = near_groups(matrix.parts, places, threshold, rank, report)

    def saves(group: NearGroup) -> int:
        return -int(size[group.others].sum())

    return [
        (
            int(matrix.ids[group.first]),
            list(zip(matrix.ids[group.others].tolist(), group.similarities.tolist(), strict=True)),
        )
        for group in sorted(found, key=saves)
    ]


def describe_group(
    store: Store, keep: int, others: list[tuple[int, float]]
) -> DuplicateGroup | None:
    """A group of ids as its user sees it; None if there is none any more."""
    described = [
        None if known is None else Duplicate(os.fsdecode(known[0]), similarity, *known[1:])
        for item, similarity in [(keep, 1.0), *others]
        for known in [store.items.file(item)]
    ]
    first, *rest = described
    left = [other for other in rest if other is not None]
    return DuplicateGroup(first, left) if first is not None and left else None
