"""What every export keeps, leaves out, refuses and leaves behind when it is ended."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import ShardError
from tests.machine import needs_posix
from tests.runtime.shards import postgres
from tests.runtime.shards.vectors_run import unit, write_run
from tests.runtime.test_cli import complaint, run

pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
pq = pytest.importorskip("pyarrow.parquet")

from bareclip import shards  # noqa: E402
from bareclip.shards.exports import clip_retrieval, embedded, milvus, npz  # noqa: E402

FOLDERS = ["clip-retrieval", "faiss", "lance", "milvus", "npz", "qdrant"]
PACKAGES = {"faiss": "faiss", "lance": "lancedb", "pgvector": "psycopg"}
# Keys, and captions, that some format or other would trip over.
HOSTILE = [
    "plain",
    "it's \"quoted\" \\ and '; DROP TABLE images; --",
    "two\nlines\r\n\tand a tab",
    "🦜 émoji ‮ العربية",
    "\\N",
    "NULL",
    "{1,2}",
    "",
    "x" * 20_000,
    "é" * 40_000,
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres.server() as address:
        yield address


def exported(plan: shards.Plan, to: Any, folder: Path, **options: Any) -> Path:
    """Where an export lies; skips without its package."""
    if to in PACKAGES:
        pytest.importorskip(PACKAGES[to])
    place = folder / "photos.lance" if to == "lance" else folder / to
    shards.export(plan, to, place, **options)
    return place


def table_of(to: str, place: Path) -> list[tuple[str, str | None, Any]]:
    """Key, caption and vector of each row, as the target's own reader has them."""
    if to == "lance":
        import lancedb

        found = lancedb.connect(place.parent).open_table(place.stem).to_arrow()
        numbers = np.array(found["vector"].to_pylist(), np.float32).reshape(len(found), 20)
    elif to == "qdrant":
        lines = map(json.loads, (place / "payload.jsonl").read_text().splitlines())
        told = [{"key": one["key"], "caption": one.get("caption")} for one in lines]
        found = pa.Table.from_pylist(
            told, pa.schema([("key", pa.string()), ("caption", pa.string())])
        )
        numbers = np.load(place / "vectors.npy")
    elif to == "milvus":
        found = pq.read_table(place)
        numbers = np.array(found["vector"].to_pylist(), np.float32).reshape(len(found), 20)
        assert found["id"].to_pylist() == list(range(len(found)))
    elif to == "faiss":
        import faiss

        found = pq.read_table(place / "keys.parquet")
        index = faiss.read_index(str(place / "index.faiss"))
        numbers = index.reconstruct_n(0, index.ntotal)
    else:
        clip = to == "clip-retrieval"
        tables = sorted((place / "metadata" if clip else place).glob("*.parquet"))
        arrays = sorted((place / "img_emb" if clip else place).glob("*.np[yz]"))
        found = pa.concat_tables([pq.read_table(path) for path in tables])
        names = {"image_path": "key", "uid": "key", "text": "caption"}
        found = found.rename_columns([names.get(name, name) for name in found.column_names])
        read = [np.load(path) for path in arrays]
        numbers = np.concatenate([one if clip else one["img"] for one in read])
    keys, captions = found["key"].to_pylist(), found["caption"].to_pylist()
    assert len(numbers) == len(keys)
    return list(zip(keys, captions, numbers, strict=True))


def check(rows: list[tuple[str, str | None, Any]], keys: list[str], vectors: Any) -> None:
    assert [key for key, _, _ in rows] == keys
    if keys:
        found = np.stack([vector for _, _, vector in rows]).astype(np.float32)
        np.testing.assert_allclose(found, vectors, atol=1e-3)


@pytest.mark.parametrize("kind", ["float16", "float32"])
@pytest.mark.parametrize("to", FOLDERS)
def test_rows_in_order_without_the_failed_ones(
    to: str, kind: str, tmp_path: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ROWS", 7)
    monkeypatch.setattr(clip_retrieval, "ROWS", 10)
    monkeypatch.setattr(milvus, "ROWS", 10)
    vectors = unit(5, 53, 20)
    keys = [f"picture {i}" for i in range(53)]
    given = [None if i % 9 == 4 or 20 <= i < 30 else row for i, row in enumerate(vectors)]
    plan = write_run(tmp_path, clip, keys, given, kind=kind, rows=10)
    kept = [i for i, row in enumerate(given) if row is not None]
    took: list[int] = []
    place = exported(plan, to, tmp_path, report=took.append)
    check(table_of(to, place), [keys[i] for i in kept], vectors[kept])
    assert took[-1] == len(kept)
    assert took == sorted(took)
    if kind == "float32" and to not in ("clip-retrieval", "npz"):
        found = np.stack([vector for _, _, vector in table_of(to, place)])
        np.testing.assert_array_equal(found, vectors[kept])


@pytest.mark.parametrize("to", FOLDERS)
def test_any_key_and_caption(to: str, tmp_path: Path, clip: bareclip.Clip) -> None:
    captions = [*reversed(HOSTILE[1:]), None]
    plan = write_run(tmp_path, clip, HOSTILE, list(unit(6, len(HOSTILE), 20)), captions=captions)
    found = [(key, caption) for key, caption, _ in table_of(to, exported(plan, to, tmp_path))]
    wanted = list(zip(HOSTILE, captions, strict=True))
    if to == "milvus":  # which takes 65,535 bytes, and has no null here
        wanted = [
            tuple((text or "").encode()[:65_535].decode(errors="ignore") for text in pair)  # type: ignore[misc]
            for pair in wanted
        ]
    assert found == wanted


def test_any_key_and_caption_in_postgresql(
    tmp_path: Path, clip: bareclip.Clip, database: str
) -> None:
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    keys = [*HOSTILE, "nul \0 here"]
    vectors = unit(6, len(keys), 20)
    plan = write_run(tmp_path, clip, keys, list(vectors), captions=[*HOSTILE, None])
    table = 'odd "table"; --'
    shards.export(plan, "pgvector", database, table=table)
    with psycopg.connect(database) as connection:
        quoted = psycopg.sql.Identifier(table)
        asked = psycopg.sql.SQL(
            'SELECT id, key, caption, vector::real[], "offset", url FROM {} ORDER BY id'
        ).format(quoted)
        found = connection.execute(asked).fetchall()
        by_key = psycopg.sql.SQL("SELECT id FROM {} WHERE key = %s").format(quoted)
        assert connection.execute(by_key, [HOSTILE[-1]]).fetchall() == [(len(HOSTILE) - 1,)]
    assert [row[1] for row in found] == [*HOSTILE, "nul \\x00 here"]
    assert [row[2] for row in found] == [*HOSTILE, None]
    assert [row[0] for row in found] == [row[4] for row in found] == list(range(len(keys)))
    assert found[3][5] == "http://example.org/3"
    np.testing.assert_array_equal(np.array([row[3] for row in found], np.float32), vectors)
    with pytest.raises(ShardError, match="has a table .* already"):
        shards.export(plan, "pgvector", database, table=table)


@pytest.mark.parametrize("to", FOLDERS)
def test_a_run_in_which_all_failed(to: str, tmp_path: Path, clip: bareclip.Clip) -> None:
    plan = write_run(tmp_path, clip, ["a", "b"], [None, None])
    place = exported(plan, to, tmp_path)
    if to == "clip-retrieval":
        assert np.load(place / "img_emb" / "img_emb_0000.npy").shape == (0, 20)
    assert table_of(to, place) == []
    assert shards.export(plan, "qdrant", tmp_path / "again").failed == 2


def test_an_empty_table_in_postgresql(tmp_path: Path, clip: bareclip.Clip, database: str) -> None:
    pytest.importorskip("pgvector")
    plan = write_run(tmp_path, clip, ["a"], [None])
    assert shards.export(plan, "pgvector", database, table="nothing").rows == 0


def test_a_run_that_is_not_finished(tmp_path: Path, clip: bareclip.Clip) -> None:
    vectors = unit(7, 30, 20)
    keys = [f"picture {i}" for i in range(30)]
    plan = write_run(tmp_path, clip, keys, list(vectors), rows=10, skip=[1])
    with pytest.raises(ShardError, match="has 2 of 3 shards; finish it .* --partial"):
        shards.export(plan, "qdrant", tmp_path / "out")
    found = shards.export(plan, "qdrant", tmp_path / "out", partial=True)
    assert (found.rows, found.shards, found.missing) == (20, 2, 1)
    check(
        table_of("qdrant", tmp_path / "out"),
        keys[:10] + keys[20:],
        vectors[[*range(10), *range(20, 30)]],
    )


def test_a_run_of_nothing(tmp_path: Path, clip: bareclip.Clip) -> None:
    plan = write_run(tmp_path, clip, ["a"], [None], skip=[0])
    with pytest.raises(ShardError, match="holds no vectors yet; make them with"):
        shards.export(plan, "qdrant", tmp_path / "out", partial=True)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path, clip: bareclip.Clip) -> None:
    plan = write_run(tmp_path, clip, ["a"], list(unit(8, 1, 20)))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    for name in ("file", "link", "empty"):
        with pytest.raises(ShardError, match="is there already"):
            shards.export(plan, "npz", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ShardError, match="no local folder"):
        shards.export(plan, "npz", "s3://bucket/out")
    with pytest.raises(ShardError, match=r"must end in \.lance"):
        shards.export(plan, "lance", tmp_path / "photos")
    with pytest.raises(ShardError, match="'excel' is unknown; it is one of clip-retrieval, faiss"):
        shards.export(plan, "excel", tmp_path / "out")  # type: ignore[arg-type]


def _nan(plan: shards.Plan) -> None:
    _rewrite(plan, lambda rows: rows[0].update(vector=[float("nan")] * 20))


def _zero(plan: shards.Plan) -> None:
    _rewrite(plan, lambda rows: rows[2].update(vector=[0.0] * 20))


def _dropped(plan: shards.Plan) -> None:
    _rewrite(plan, lambda rows: rows.pop())


def _cut(plan: shards.Plan) -> None:
    path = Path(plan.part(1).place.uri)
    path.write_bytes(path.read_bytes()[:-100])


def _rewrite(plan: shards.Plan, change: Callable[[list[Any]], Any]) -> None:
    table = pq.read_table(plan.part(1).place.uri)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), plan.part(1).place.uri)


@pytest.mark.parametrize("damage", [_nan, _zero, _dropped, _cut])
@pytest.mark.parametrize("to", FOLDERS)
def test_a_damaged_part_ends_it(
    to: str, damage: Callable[[shards.Plan], None], tmp_path: Path, clip: bareclip.Clip
) -> None:
    plan = write_run(tmp_path, clip, list("abcdef"), list(unit(9, 6, 20)), rows=3)
    damage(plan)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ShardError, match=r"part-000001\.parquet"):
        exported(plan, to, tmp_path)
    assert sorted(tmp_path.iterdir()) == before


# Says that it has begun, and waits to be ended.
_BEGINS = """
import sys, time
from bareclip import shards

def wait(done):
    print("begun", flush=True)
    time.sleep(3)

shards.export(sys.argv[1], sys.argv[2], sys.argv[3], report=wait)
"""


def begun(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _BEGINS, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@needs_posix
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
@pytest.mark.parametrize("to", ["faiss", "lance", "npz"])
def test_ended_midway_nothing_is_there(
    to: str, how: str, tmp_path: Path, clip: bareclip.Clip
) -> None:
    plan = write_run(tmp_path, clip, list("abcdef"), list(unit(9, 6, 20)), rows=3)
    if to in PACKAGES:
        pytest.importorskip(PACKAGES[to])
    before = sorted(tmp_path.iterdir())
    place = tmp_path / "photos.lance" if to == "lance" else tmp_path / to
    process = begun(plan.out, to, place)
    process.send_signal(getattr(signal, how))
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not place.exists()
    if how == "SIGINT":
        assert sorted(tmp_path.iterdir()) == before
    assert len(table_of(to, exported(plan, to, tmp_path))) == 6


def test_ended_midway_there_is_no_table(tmp_path: Path, clip: bareclip.Clip, database: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    plan = write_run(tmp_path, clip, list("abcdef"), list(unit(9, 6, 20)), rows=3)
    process = begun(plan.out, "pgvector", database)
    process.kill()
    process.communicate(timeout=30)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('images')").fetchone() == (None,)
    shards.export(plan, "pgvector", database)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (6,)


def test_a_package_that_is_missing(
    tmp_path: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_run(tmp_path, clip, ["a"], list(unit(9, 1, 20)))
    before = sorted(tmp_path.iterdir())
    for to, module, said in (
        ("lance", "lancedb", "pip install lancedb"),
        ("faiss", "faiss", "pip install faiss-cpu"),
        ("pgvector", "psycopg", r"pip install 'psycopg\[binary\]' pgvector"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ShardError, match=f"needs {module} .*{said}"):
            shards.export(plan, to, tmp_path / "x.lance")  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_the_database_cannot_be_used(tmp_path: Path, clip: bareclip.Clip, database: str) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    plan = write_run(tmp_path, clip, ["a"], list(unit(9, 1, 20)))
    for address in ("postgresql://nobody:secret@/none?host=/nowhere", "no address"):
        with pytest.raises(ShardError, match="PostgreSQL: ") as caught:
            shards.export(plan, "pgvector", address)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_more_numbers_than_hnsw_takes(tmp_path: Path, clip: bareclip.Clip, database: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    plan = write_run(tmp_path, clip, ["a"], list(unit(9, 1, 2100)), width=2100)
    with pytest.raises(ShardError, match='is whole, but has no index: .*CREATE INDEX ON "wide"'):
        shards.export(plan, "pgvector", database, table="wide")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM wide").fetchone() == (1,)


def test_arrays_have_datacomps_names() -> None:
    for model, name in (
        ("openai/clip-vit-base-patch32", "b32_img"),
        ("openai/clip-vit-large-patch14", "l14_img"),
        ("ViT-L-14", "l14_img"),
        ("ViT-B-32-256", "b32_img"),
        ("google/siglip-base-patch16-224", "img"),
        ("tiny", "img"),
    ):
        assert npz.array_name(model) == name


def test_milvus_files_have_its_own_writers_types(tmp_path: Path, clip: bareclip.Clip) -> None:
    """As PyMilvus's bulk writer writes such a collection: no list of a fixed size, no null."""
    plan = write_run(tmp_path, clip, ["a"], list(unit(9, 1, 20)), kind="float16")
    shards.export(plan, "milvus", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "000000.parquet")
    assert schema.field("id").type == pa.int64()
    assert schema.field("vector").type == pa.list_(pa.float32())
    assert schema.field("key").type == pa.string()
    table = pq.read_table(tmp_path / "out")
    assert sum(column.null_count for column in table.columns) == 0


def test_from_the_command_line(finished: Path, tmp_path: Path) -> None:
    told = run("shards", "export", finished, "--to", "npz", "-o", tmp_path / "out")
    assert told.stdout == "16 vectors; 3 pictures that failed are left out\n"
    found = json.loads(
        run("shards", "export", finished, "--to=qdrant", "-o", tmp_path / "q", "--json").stdout
    )
    assert found == {"to": "qdrant", "rows": 16, "failed": 3, "shards": 5, "missing": 0}
    again = complaint("shards", "export", finished, "--to", "npz", "-o", tmp_path / "out")
    assert "is there already" in again
    (finished / "parts" / "part-000001.parquet").unlink()
    assert "--partial" in complaint("shards", "export", finished, "--to=npz", "-o", tmp_path / "p")
    told = run("shards", "export", finished, "--to=npz", "-o", tmp_path / "p", "--partial")
    assert told.stdout.endswith("left out, 1 shards are not done yet\n")
    wrong = ["shards", "export", finished, "--to=npz", "-o", tmp_path / "x", "--table", "t"]
    assert "--table goes with" in complaint(*wrong, code=2)
