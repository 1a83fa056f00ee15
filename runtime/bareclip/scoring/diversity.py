"""Answers that are spread out: maximal marginal relevance."""

import numpy as np
from numpy.typing import NDArray

from .vectors import Floats, normalize


def spread_out(similarities: Floats, rows: Floats, k: int, diversity: float) -> NDArray[np.int64]:
    """The order in which candidates are taken by maximal marginal relevance.

    Each step takes the candidate d, of those not yet in the answer S, with the largest

        (1 - diversity) * similarity(d) - diversity * max over s in S of cosine(d, s)

    where the maximum over nothing is 0 (Carbonell and Goldstein, SIGIR 1998; their lambda is
    1 - diversity).

    Args:
        similarities: (P,) of the candidates to what was asked, best first.
        rows: (P, D) the candidates.
        k: How many to take at most.
        diversity: 0 keeps the order, 1 asks for nothing but difference.

    Returns:
        (min(k, P),) places, in the order in which they are taken; ties go to the first.
    """
    unit = normalize(np.asarray(rows, np.float64))
    left = np.ones(len(unit), np.bool_)
    nearest = np.zeros(len(unit))
    taken: list[int] = []
    for _ in range(min(k, len(unit))):
        scores = (1 - diversity) * similarities - diversity * nearest
        best = int(np.where(left, scores, -np.inf).argmax())
        left[best] = False
        cosines = unit @ unit[best]
        nearest = np.maximum(nearest, cosines) if taken else cosines
        taken.append(best)
    return np.array(taken, np.int64)
