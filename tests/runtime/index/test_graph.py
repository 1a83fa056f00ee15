"""Approximate search: as the exact one, nearly, and never of a stale graph."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import StoreError
from bareclip.scoring.vectors import normalize

pytest.importorskip("usearch", reason="needs bareclip[ann]")


def clusters(count: int) -> Any:
    rng = np.random.default_rng(count)
    centres = rng.standard_normal((20, 20))
    rows = centres[rng.integers(0, 20, count)] + 0.3 * rng.standard_normal((count, 20))
    return normalize(rows).astype(np.float32)


def files(index: bareclip.Index) -> list[str]:
    return [path.name for path in index.path.parent.glob("*.hnsw")]


def test_recall_and_similarity(index: bareclip.Index) -> None:
    rows = clusters(3000)
    index.add([str(i) for i in range(3000)], rows)
    shared = 0
    for query in clusters(100):
        exact = {hit.item: hit.similarity for hit in index.search(query)}
        hits = index.search(query, approximate=True)
        assert [h.similarity for h in hits] == sorted((h.similarity for h in hits), reverse=True)
        shared += len([hit for hit in hits if exact.get(hit.item) == hit.similarity])
    assert shared / 1000 > 0.95


@pytest.mark.parametrize("count", [100, 1000])
def test_every_vector_finds_itself(clip: bareclip.Clip, tmp_path: Path, count: int) -> None:
    # usearch adds with several threads, which left some out of three graphs in eight.
    for seed in range(20):
        rows = normalize(np.random.default_rng(seed).standard_normal((count, 20)))
        with bareclip.Index.open(tmp_path / f"{seed}.db", clip) as index:
            index.add([str(i) for i in range(count)], rows.astype(np.float32))
            answers = index.search_many(list(rows), k=1, approximate=True)
        assert [hits[0].item for hits in answers] == [str(i) for i in range(count)]


def test_the_graph_grows_and_shrinks_with_the_store(index: bareclip.Index) -> None:
    rows = clusters(200)
    names = [str(i) for i in range(200)]
    index.add(names[:100], rows[:100])
    assert [h.item for h in index.search(rows[7], k=1, approximate=True)] == ["7"]
    [first] = files(index)
    index.add(names[100:], rows[100:])
    index.add(["7"], -rows[7:8])
    with bareclip.Index.open(index.path) as fresh:
        for opened in (fresh, index):
            for i in (3, 150):
                assert opened.search(rows[i], k=1, approximate=True)[0].item == names[i]
            assert "7" not in [h.item for h in opened.search(rows[7], k=3, approximate=True)]
            assert opened.search(-rows[7], k=1, approximate=True)[0].item == "7"
            assert len(opened.search(rows[7], k=300, approximate=True)) == 200
    [second] = files(index)
    assert first != second


@pytest.mark.parametrize("kept", [0, 0.001, 0.5, 0.999])
def test_a_graph_cut_short_is_made_again(index: bareclip.Index, kept: float) -> None:
    rows = clusters(200)
    index.add([str(i) for i in range(100)], rows[:100])
    index.search(rows[7], k=1, approximate=True)

    def cut() -> None:
        [path] = index.path.parent.glob("*.hnsw")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])

    cut()
    with bareclip.Index.open(index.path) as fresh:
        assert fresh.search(rows[7], k=1, approximate=True)[0].item == "7"
    # The start of the next may be cut short as well.
    cut()
    index.add([str(i) for i in range(100, 200)], rows[100:])
    answers = index.search_many(list(rows), k=1, approximate=True)
    assert sum(hits[0].item == str(i) for i, hits in enumerate(answers)) > 150
    assert len(files(index)) == 1


def test_an_empty_index(index: bareclip.Index) -> None:
    index.add([], [])
    assert index.search("x", approximate=True) == []


def test_without_usearch_the_extra_is_named(
    index: bareclip.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(["a"], clusters(1))
    inner = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("usearch"):
            raise ImportError("No module named 'usearch'")
        return inner(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StoreError, match=r"pip install 'bareclip\[ann\]'"):
        index.search("x", approximate=True)
