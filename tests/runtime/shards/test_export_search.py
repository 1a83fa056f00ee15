"""Where vectors went, the same pictures are nearest: LanceDB, FAISS, pgvector, Qdrant's client."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.scoring.vectors import UNIT_TOLERANCE

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")

from bareclip import shards
from tests.runtime.shards import postgres
from tests.runtime.shards.vectors_run import unit, write_run

Run = tuple[shards.Plan, list[str], Any]
WIDTHS = [20, 512]
KINDS = ["float16", "float32"]


@dataclass
class Answers:
    """A run, 50 queries, and what its own search answers.

    Attributes:
        scores: (50, N), in float64, of what was written.
    """

    plan: shards.Plan
    keys: list[str]
    vectors: Any
    queries: Any
    hits: list[list[bareclip.Hit[str]]]
    scores: Any

    def agree(self, ask: Callable[[Any], list[str]]) -> None:
        """Has another system give the same ten, in the same order but where rounding decides."""
        width = self.queries.shape[1]
        # A vector is of length 1 that is so within the tolerance; see scoring/nearest.py for how
        # far a product in float32 can be off.
        rounding = UNIT_TOLERANCE + 2.02 * (width + 8) * 2.0**-24
        place = {key: i for i, key in enumerate(self.keys)}
        same = 0
        for query, hits, scores in zip(self.queries, self.hits, self.scores, strict=True):
            found = ask(query)
            assert len(set(found)) == len(found) == 10
            mine = [scores[place[key]] for key in found]
            np.testing.assert_allclose(mine, [hit.similarity for hit in hits], atol=rounding)
            same += found == [hit.item for hit in hits]
        # Ten queries are asked near six equal vectors, whose order is nobody's.
        assert same >= 35


@pytest.fixture(scope="module", params=list(itertools.product(WIDTHS, KINDS)), ids=str)
def answers(
    request: pytest.FixtureRequest, clip: bareclip.Clip, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    width, kind = request.param
    vectors = unit(1, 2500, width)
    vectors[1000:1006] = vectors[7]
    keys = [f"picture {i}" for i in range(len(vectors))]
    failing: list[Any] = [None if i % 50 == 49 else row for i, row in enumerate(vectors)]
    plan = write_run(
        tmp_path_factory.mktemp("run"), clip, keys, failing, kind=kind, width=width, rows=600
    )
    kept = [i for i, row in enumerate(failing) if row is not None]
    near = vectors[7] + 0.3 * unit(3, 10, width)
    queries = np.concatenate([unit(2, 40, width), near / np.linalg.norm(near, axis=1)[:, None]])
    written = vectors[kept].astype(kind).astype(np.float64)
    written /= np.linalg.norm(written, axis=1, keepdims=True)
    hits = shards.search(plan, list(queries), k=10)
    return Answers(
        plan,
        [keys[i] for i in kept],
        written,
        queries,
        hits,
        queries.astype(np.float64) @ written.T,
    )


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres.server() as address:
        yield address


def test_the_photo_index(answers: Answers, clip: bareclip.Clip, tmp_path: Path) -> None:
    width = answers.queries.shape[1]
    if width != clip.bundle.embedding_dim:
        pytest.skip("vectors of another width than the model's, whose index that would be")
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        index.add(answers.keys, answers.vectors)
        answers.agree(lambda query: [hit.item for hit in index.search(query, k=10)])


def test_lancedb(answers: Answers, tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    shards.export(answers.plan, "lance", tmp_path / "photos.lance")
    table = lancedb.connect(tmp_path).open_table("photos")
    assert table.schema.field("vector").type.list_size == answers.queries.shape[1]
    assert len(table.list_versions()) == 1

    def ask(query: Any) -> list[str]:
        found = table.search(query).distance_type("cosine").limit(10).to_arrow()
        return [str(key) for key in found["key"].to_pylist()]

    answers.agree(ask)


def test_faiss(answers: Answers, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    import pyarrow.parquet as pq

    shards.export(answers.plan, "faiss", tmp_path / "out")
    index = faiss.read_index(str(tmp_path / "out" / "index.faiss"))
    keys = pq.read_table(tmp_path / "out" / "keys.parquet")["key"].to_pylist()
    assert keys == answers.keys
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    answers.agree(lambda query: [keys[i] for i in index.search(query[None], 10)[1][0]])


def test_pgvector(answers: Answers, database: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    pgvector = pytest.importorskip("pgvector.psycopg")
    table = f"of_{answers.queries.shape[1]}_{answers.plan.info.vectors}"
    shards.export(answers.plan, "pgvector", database, table=table)
    asking = f"SELECT key FROM {table} ORDER BY vector <=> %s LIMIT 10"
    # Else its plans outlive the setting.
    with psycopg.connect(database, prepare_threshold=None) as connection:
        pgvector.register_vector(connection)

        def ask(query: Any) -> list[str]:
            return [key for (key,) in connection.execute(asking, [query])]

        plan = connection.execute(f"EXPLAIN {asking}", [answers.queries[0]]).fetchall()
        assert f"{table}_vector_idx" in str(plan)
        # The index is HNSW, which finds most of them; the table itself has them all.
        wanted = [{hit.item for hit in hits} for hits in answers.hits]
        pairs = zip(answers.queries, wanted, strict=True)
        recall = sum(len(want.intersection(ask(query))) for query, want in pairs)
        assert recall >= 0.5 * 500
        connection.execute("SET enable_indexscan = off")
        answers.agree(ask)


@pytest.mark.filterwarnings("ignore")  # what its imitation of a server says of itself
def test_qdrant_takes_the_files(answers: Answers, tmp_path: Path) -> None:
    """By the client's own imitation of a server: that the files can be uploaded as documented."""
    qdrant = pytest.importorskip("qdrant_client")
    shards.export(answers.plan, "qdrant", tmp_path / "out")
    width = answers.queries.shape[1]
    client = qdrant.QdrantClient(":memory:")
    cosine = qdrant.models.VectorParams(size=width, distance=qdrant.models.Distance.COSINE)
    client.create_collection("images", vectors_config=cosine)
    vectors = np.load(tmp_path / "out" / "vectors.npy", mmap_mode="r")
    with (tmp_path / "out" / "payload.jsonl").open() as lines:
        payload = map(json.loads, lines)
        client.upload_collection("images", vectors, payload, ids=itertools.count(), batch_size=256)

    def ask(query: Any) -> list[str]:
        found = client.query_points("images", query=query.tolist(), limit=10).points
        return [str(point.payload["key"]) for point in found]

    answers.agree(ask)
    client.close()
