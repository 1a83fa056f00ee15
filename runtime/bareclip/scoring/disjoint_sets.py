"""Sets that are joined, many pairs at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class DisjointSets:
    """Disjoint sets of the numbers below ``count`` (Tarjan 1975), many joined at once."""

    def __init__(self, count: int) -> None:
        # Never above the number itself, so that there are no circles.
        self._parent = np.arange(count)

    def roots(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The least number of each one's set."""
        found = self._parent[numbers]
        while not np.array_equal(above := self._parent[found], found):
            found = above
        self._parent[numbers] = found
        return found

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Makes one set of those of ``left[i]`` and ``right[i]``."""
        while True:
            a, b = self.roots(left), self.roots(right)
            apart = a != b
            if not apart.any():
                return
            left, right = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
            # Of several that want a number's set, the least gets it; the others come again.
            np.minimum.at(self._parent, right, left)

    def several(self) -> Iterator[NDArray[np.int64]]:
        """The sets of two or more, each ascending, by their least."""
        roots = self.roots(np.arange(len(self._parent)))
        order = np.argsort(roots, kind="stable")
        starts = np.flatnonzero(np.diff(roots[order], prepend=-1))
        sizes = np.diff(starts, append=len(order))
        for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
            yield order[start : start + size]
