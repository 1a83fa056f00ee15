"""Search over a run's output: as a full sort in float64 would answer, and as the index does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import ShardError
from bareclip.scoring.vectors import normalize
from tests.runtime.shards import making

pq = pytest.importorskip("pyarrow.parquet", reason="needs bareclip[parquet]")

from bareclip import shards  # noqa: E402
from bareclip.shards import searching  # noqa: E402


@pytest.fixture
def corpus(finished: Path) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Keys and unit rows of the run, read by another way."""
    rows = [
        row
        for path in sorted((finished / "parts").iterdir())
        for row in pq.read_table(path).to_pylist()
        if row["error"] is None
    ]
    vectors = normalize(np.array([row["vector"] for row in rows], np.float16).astype(np.float32))
    return [row["key"] for row in rows], vectors.astype(np.float64)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("k", [0, 1, 5, 100])
def test_exact_as_a_full_sort(
    finished: Path,
    corpus: tuple[list[str], np.ndarray[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    k: int,
) -> None:
    monkeypatch.setattr(searching, "_ROWS", 2)
    keys, vectors = corpus
    queries = np.random.default_rng(seed).standard_normal((3, vectors.shape[1]))
    found = shards.search(finished, list(queries), k=k)
    for query, hits in zip(queries, found, strict=True):
        scores = (vectors * normalize(query)).sum(axis=1)
        order = np.argsort(-scores, kind="stable")[:k]
        assert [hit.item for hit in hits] == [keys[i] for i in order]
        assert [hit.similarity for hit in hits] == pytest.approx(scores[order].tolist(), abs=1.1e-5)


def test_texts_and_pictures_as_the_index_answers(
    finished: Path,
    corpus: tuple[list[str], np.ndarray[Any, Any]],
    clip: bareclip.Clip,
    tmp_path: Path,
) -> None:
    keys, vectors = corpus
    queries = ["a cat", making.jpeg(11), "dog"]
    found = shards.search(finished, queries, clip, k=4)
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        index.add(keys, vectors)
        wanted = index.search_many(queries, k=4)
    for mine, theirs in zip(found, wanted, strict=True):
        assert [hit.item for hit in mine] == [hit.item for hit in theirs]
    assert found[1][0].item == "000000011"


def test_what_cannot_be_asked(
    finished: Path, tmp_path: Path, bundles: dict[str, Path], clip: bareclip.Clip
) -> None:
    other = bareclip.load(bundles["odd"])
    with pytest.raises(ShardError, match="model 'odd' where it has 'tiny'.*plan a new run"):
        shards.search(finished, ["a cat"], other)
    with pytest.raises(bareclip.VectorError, match="k is -1"):
        shards.search(finished, ["a cat"], clip, k=-1)
    plan = shards.plan(making.write_folder(tmp_path / "more", 2), tmp_path / "OUT2")
    with pytest.raises(ShardError, match="holds no vectors yet; make them with"):
        shards.search(plan, ["a cat"], clip)
