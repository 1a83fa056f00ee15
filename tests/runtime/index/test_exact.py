"""The answers of a full sort in float64, ties by place."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bareclip.scoring import nearest as exact
from bareclip.scoring.vectors import normalize

K = (0, 1, 10, 100, 5000)


def sample(kind: str, width: int, count: int = 3000) -> NDArray[np.float32]:
    rng = np.random.default_rng([width, count])
    rows = rng.standard_normal((count, width))
    if kind == "clustered":
        rows = rows[rng.integers(0, 12, count)] + 1e-4 * rows
    if kind == "duplicates":
        rows = rows[rng.integers(0, 40, count)]
    if kind == "nearly equal":
        rows = rows[:1] + 1e-7 * rows
    return normalize(rows).astype(np.float32)


def full_sort(
    rows: NDArray[np.float32], query: NDArray[np.floating], allowed: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    scores = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    scores[~allowed] = -np.inf
    order = np.argsort(-scores, kind="stable")[: min(k, int(allowed.sum()))]
    return order, scores[order]


@pytest.mark.parametrize("width", [20, 512, 513])
@pytest.mark.parametrize("kind", ["random", "clustered", "duplicates", "nearly equal"])
def test_exact_equals_a_full_sort(kind: str, width: int) -> None:
    rows = sample(kind, width)
    parts = [rows[:2000], rows[2000:2000], rows[2000:]]
    rng = np.random.default_rng(0)
    queries = np.concatenate([rows[:3], normalize(rng.standard_normal((3, width)))])
    everything = np.ones(len(rows), np.bool_)
    for allowed in (everything, rng.random(len(rows)) < 0.3, ~everything):
        for k in K:
            mask = None if allowed is everything else allowed
            found = exact.nearest(parts, queries, k, mask)
            for (places, scores), query in zip(found, queries, strict=True):
                wanted, wanted_scores = full_sort(rows, query, allowed, k)
                np.testing.assert_array_equal(places, wanted)
                np.testing.assert_array_equal(scores, wanted_scores)


def test_many_queries_are_asked_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sample("random", 20)
    together = exact.nearest([rows], rows[:50], 3)
    monkeypatch.setattr(exact, "_SCORES", 7 * len(rows))
    for (places, scores), (again, same) in zip(
        together, exact.nearest([rows], rows[:50], 3), strict=True
    ):
        np.testing.assert_array_equal(places, again)
        np.testing.assert_array_equal(scores, same)


def test_nothing_to_search() -> None:
    [(places, scores)] = exact.nearest([np.empty((0, 20), np.float32)], np.ones((1, 20)), 5)
    assert (places.size, scores.size) == (0, 0)


def test_float32_alone_would_not_do() -> None:
    rows = sample("nearly equal", 512)
    order = np.argsort(-(rows @ rows[0]), kind="stable")[:10]
    [(places, _)] = exact.nearest([rows], rows[:1], 10)
    assert (order != places).any()


def test_rows_that_are_no_numbers_take_no_place() -> None:
    rows = sample("random", 20, 400)
    right = rows.copy()
    bad = np.random.default_rng(0).choice(400, 60, replace=False)
    for place, value in zip(bad, [np.nan, np.inf, -np.inf] * 20, strict=True):
        rows[place, place % 20] = value
    rows[bad[0]] = np.nan
    allowed = ~np.isin(np.arange(400), bad)
    for k in (1, 10, 340, 399, 500):
        found = exact.nearest([rows[:100], rows[100:]], right[:5], k)
        for (places, scores), query in zip(found, right[:5], strict=True):
            wanted, wanted_scores = full_sort(right, query, allowed, k)
            np.testing.assert_array_equal(places, wanted)
            np.testing.assert_array_equal(scores, wanted_scores)
    nothing = np.full((3, 20), np.nan, np.float32)
    [(places, scores)] = exact.nearest([nothing], right[:1], 2)
    assert (places.size, scores.size) == (0, 0)
