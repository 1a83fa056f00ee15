"""A database from anywhere: it is answered from, or refused in one line. Never anything else."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip import BareclipError, StoreError
from bareclip.index.database import TAGGED_VERSION, TAGS_SCHEMA, check_format, explained
from tests.machine import needs_posix
from tests.variants import picture

# More of them, as 2000, are tried now and then.
MUTATIONS = int(os.environ.get("BARECLIP_FUZZ", "60"))
ENDLESS = (
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT x AS id, 'file' AS kind, x AS key, x AS path, 0 AS mounted, 0 AS size, "
    "0 AS modified_ns, x AS content, 1 AS width, 1 AS height, 'embedded' AS status, "
    "NULL AS reason, NULL AS metadata FROM n"
)


@pytest.fixture(scope="module")
def whole(clip: bareclip.Clip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An index of four photos and sixteen vectors; and the folder of photos."""
    place = tmp_path_factory.mktemp("whole")
    folder = place / "photos"
    folder.mkdir()
    for i in range(4):
        picture(50 + i, 40, seed=i).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with bareclip.Index.open(place / "photos.db", clip) as index:
        index.sync(folder)
        rows = np.random.default_rng(0).standard_normal((16, 20))
        index.add([f"n{i}" for i in range(16)], rows, [{"n": i} for i in range(16)])
    return place / "photos.db", folder


@pytest.fixture
def db(whole: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(whole[0], tmp_path / "photos.db"))


def tried(db: Path, clip: bareclip.Clip, folder: Path) -> list[str]:
    """What each use of an index says: "" where it works, else its one line."""
    uses: list[Callable[[bareclip.Index], object]] = [
        lambda index: (index.status(), index.bundle, index.made_by),
        lambda index: index.search(np.ones(20), k=3),
        lambda index: index.search("a cat", k=3, under=folder),
        lambda index: index.export_to(db.with_name("out.npy")),
        lambda index: index.sync(folder),
        lambda index: index.add(["n3", "new"], np.eye(2, 20)),
        lambda index: index.search(folder / "0.png", k=3),
    ]
    said = []
    for use in uses:
        try:
            with bareclip.Index.open(db, clip) as index:
                use(index)
            said.append("")
        except BareclipError as error:
            said.append(str(error))
    assert not any("\n" in line for line in said)
    return said


def changed(db: Path, *statements: str) -> None:
    """Runs SQL, as an adversary would: nothing that SQLite can be told is left out."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


# What holds more or less than a store does is refused before any of it is asked for.
REFUSED = {
    "endless view": ["DROP TABLE items", f"CREATE VIEW items AS {ENDLESS}"],
    "endless vectors": [
        "DROP TABLE vectors",
        "CREATE VIEW vectors AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT x AS item, zeroblob(80) AS vector FROM n",
    ],
    "view of meta": [
        "ALTER TABLE meta RENAME TO other",
        "CREATE VIEW meta AS SELECT name, value FROM other",
    ],
    "another trigger": ["CREATE TRIGGER more AFTER INSERT ON items BEGIN DELETE FROM items; END"],
    "a trigger of ours changed": [
        "DROP TRIGGER vector_made",
        "CREATE TRIGGER vector_made AFTER INSERT ON vectors BEGIN DELETE FROM items; END",
    ],
    "a trigger less": ["DROP TRIGGER vector_removed"],
    "an index less": ["DROP INDEX items_by_content"],
    "another index": ["CREATE INDEX more ON items (path, hex(key))"],
    "another table": ["CREATE TABLE more (x)"],
    "a table less": ["DROP TABLE vectors"],
    "no tables": ["DROP TABLE vectors", "DROP TABLE items", "DROP TABLE meta"],
    "another column": ["ALTER TABLE items ADD COLUMN more DEFAULT (1)"],
    "a generated column": ["ALTER TABLE items ADD COLUMN more AS (length(path))"],
    "a column less": ["ALTER TABLE items DROP COLUMN reason"],
    "a renamed column": ["ALTER TABLE items RENAME COLUMN path TO place"],
    "a virtual table": ["CREATE VIRTUAL TABLE more USING fts5(x)"],
    "schema no SQL": ["UPDATE sqlite_master SET sql = 'CREATE nothing' WHERE name = 'items'"],
    "schema of bytes": ["UPDATE sqlite_master SET sql = x'00ff' WHERE name = 'items'"],
    "a hidden trigger": [
        "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_more', 'items', 0,"
        " 'CREATE TRIGGER sqlite_more AFTER INSERT ON items BEGIN DELETE FROM items; END')"
    ],
    "another application": ["PRAGMA application_id = 7"],
    "another version": ["PRAGMA user_version = 9"],
    "no fingerprint": ["DELETE FROM meta WHERE name = 'fingerprint'"],
    "fingerprint a number": ["UPDATE meta SET value = 7 WHERE name = 'fingerprint'"],
    "fingerprint of bytes": ["UPDATE meta SET value = x'80ff' WHERE name = 'fingerprint'"],
    "fingerprint deep": [
        "UPDATE meta SET value = replace(hex(zeroblob(100000)), '00', '[')"
        " WHERE name = 'fingerprint'"
    ],
    "fingerprint a list": ["UPDATE meta SET value = '[1]' WHERE name = 'fingerprint'"],
    "fingerprint cut": ["UPDATE meta SET value = substr(value, 1, 90) WHERE name = 'fingerprint'"],
    "wide as a continent": [
        "UPDATE meta SET value = replace(value, '\"width\": 20', '\"width\": 1000000000000')"
    ],
    "width text": ['UPDATE meta SET value = replace(value, \'"width": 20\', \'"width": "20"\')'],
    "reading unknown": ["UPDATE meta SET value = replace(value, 'as_seen', 'as_dreamt')"],
    "decoding unknown": ["UPDATE meta SET value = replace(value, 'scaled', 'half')"],
}
# What only some uses meet: those say so, the others answer.
MET = {
    "no state": ["DELETE FROM meta WHERE name IN ('store', 'generation')"],
    "store a path": ["UPDATE meta SET value = '/../../x/0123456' WHERE name = 'store'"],
    "store of bytes": ["UPDATE meta SET value = x'00' WHERE name = 'store'"],
    "generation text": ["UPDATE meta SET value = 'many' WHERE name = 'generation'"],
    "generation below zero": ["UPDATE meta SET value = -5 WHERE name = 'generation'"],
    "generation at its end": ["UPDATE meta SET value = 9223372036854775807"
                              " WHERE name = 'generation'"],
    "token a number": ["UPDATE meta SET value = 5 WHERE name LIKE 'token %'"],
    "paths of numbers": ["UPDATE items SET path = 5"],
    "paths of text": ["UPDATE items SET path = 'cat', key = 'cat' || id"],
    "paths with NUL": ["UPDATE items SET path = x'2f6100', key = x'2f6100' || id"],
    "empty paths": ["UPDATE items SET path = x''"],
    "kind unknown": ["UPDATE items SET kind = 'dream' || id"],
    "status unknown": ["UPDATE items SET status = x'00ff'"],
    "status no text": ["UPDATE items SET status = CAST(x'ff' AS TEXT)"],
    "reason a number": ["UPDATE items SET reason = 5"],
    "content text": ["UPDATE items SET content = 'x'"],
    "sizes of text": ["UPDATE items SET size = 'x', modified_ns = x'00', mounted = 'x'"],
    "metadata no JSON": ["UPDATE items SET metadata = '{'"],
    "metadata a list": ["UPDATE items SET metadata = '[1]'"],
    "metadata of bytes": ["UPDATE items SET metadata = x'80'"],
    "metadata deep": ["UPDATE items SET metadata = replace(hex(zeroblob(100000)), '00', '[')"],
    "vectors short": ["UPDATE vectors SET vector = substr(vector, 2)"],
    "vectors long": ["UPDATE vectors SET vector = zeroblob(1000000)"],
    "vectors text": ["UPDATE vectors SET vector = 'x'"],
    "vectors zero": ["UPDATE vectors SET vector = zeroblob(80)"],
    "vectors NaN": ["UPDATE vectors SET vector = CAST(replace(hex(zeroblob(40)), '00', 'ÿÿ')"
                    " AS BLOB)", "UPDATE vectors SET vector = substr(vector, 1, 80)"],
    "vectors huge": [f"UPDATE vectors SET vector = x'{np.full(20, 1e30, '<f4').tobytes().hex()}'"],
    "vectors of nothing": ["DELETE FROM items"],
    "items without vectors": ["DELETE FROM vectors"],
    "ids below zero": ["UPDATE vectors SET item = -item", "UPDATE items SET id = -id"],
    "bundle relative": ["UPDATE meta SET value = x'2e2e2f78' WHERE name = 'bundle'"],
    "bundle a number": ["UPDATE meta SET value = 5 WHERE name = 'bundle'"],
    "bundle with NUL": ["UPDATE meta SET value = x'2f6100' WHERE name = 'bundle'"],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Unicode")
@pytest.mark.parametrize("name", [*REFUSED])
def test_what_is_no_store_is_refused_by_every_use(
    whole: tuple[Path, Path], db: Path, clip: bareclip.Clip, name: str
) -> None:
    changed(db, *REFUSED[name])
    assert all(tried(db, clip, whole[1]))


@pytest.mark.parametrize("name", [*MET])
def test_odd_rows_are_one_line_for_who_meets_them(
    whole: tuple[Path, Path], db: Path, clip: bareclip.Clip, name: str
) -> None:
    changed(db, *MET[name])
    said = tried(db, clip, whole[1])
    if name.startswith("bundle"):
        assert not any(said)
        changed(db, *MET[name])
        with bareclip.Index.open(db) as index:
            assert index.bundle is index.status().bundle is None
    elif name.startswith("vectors"):
        assert "is damaged: " in said[1]
    assert sorted(path.name for path in db.parent.iterdir() if path.suffix == ".hnsw") == []


def test_a_database_that_was_not_touched_answers(
    whole: tuple[Path, Path], db: Path, clip: bareclip.Clip
) -> None:
    assert not any(tried(db, clip, whole[1]))


def test_one_that_is_tagged_just_now_is_an_index(db: Path) -> None:
    tagged = []

    def tag_meanwhile(statement: str) -> None:
        if "sqlite_master" in statement:
            changed(db, "BEGIN", *TAGS_SCHEMA, f"PRAGMA user_version = {TAGGED_VERSION}", "COMMIT")
            tagged.append(statement)

    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.set_trace_callback(tag_meanwhile)
        check_format(db, connection)
        connection.set_trace_callback(None)
        assert len(tagged) == 1
        assert connection.execute("PRAGMA user_version").fetchone() == (TAGGED_VERSION,)
        check_format(db, connection)


@needs_posix
def test_other_things_in_its_place(
    whole: tuple[Path, Path], clip: bareclip.Clip, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.db")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "empty.db").touch()
    (tmp_path / "device.db").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "empty", "device"):
        assert all(tried(tmp_path / f"{name}.db", clip, whole[1])), name


@needs_posix
def test_pipes_beside_it_are_not_waited_for(
    whole: tuple[Path, Path], db: Path, clip: bareclip.Clip
) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    with bareclip.Index.open(db) as index:
        state = index._store.state()
    graph = f"photos.db.{state.store}-{state.generation}-{state.token}.hnsw"
    for name in ("photos.db.vectors", graph):
        os.mkfifo(db.with_name(name))
    with bareclip.Index.open(db) as index:
        wanted = index.search(np.ones(20), k=2)
        assert index.search(np.ones(20), k=2, approximate=True) == wanted
    assert not any(tried(db, clip, whole[1]))


def test_mutated_databases(whole: tuple[Path, Path], db: Path, clip: bareclip.Clip) -> None:
    data = whole[0].read_bytes()
    outcomes = []
    for seed in range(MUTATIONS):
        rng = random.Random(seed)
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 3, 30))):
            # Half of them in a header of a page, or in the schema.
            page = rng.randrange(len(mutant) // 16384) * 16384
            end = page + rng.choice((120, 16384))
            mutant[rng.randrange(page, end)] = rng.choice((0, 255, 1, 128, rng.randrange(256)))
        if rng.random() < 0.1:
            del mutant[rng.randrange(len(mutant)) :]
        for path in db.parent.glob("photos.db*"):
            path.unlink()
        db.write_bytes(mutant)
        outcomes.append(tried(db, clip, whole[1]))
    assert any(any(said) for said in outcomes)
    assert any(not any(said) for said in outcomes)


@needs_posix
def test_an_interrupt_reaches_a_long_statement(db: Path) -> None:
    code = f"""
import signal, sys
import bareclip.index.opening as opening
from bareclip.index.database import explained
from pathlib import Path
path = Path({str(db)!r})
connection, _ = opening.connect(path)
print("ready", flush=True)
with explained(path):
    connection.execute("SELECT count(*) FROM ({ENDLESS})").fetchone()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert error.strip().endswith("KeyboardInterrupt")


def test_sqlite_says_interrupted_in_one_way() -> None:
    with pytest.raises(KeyboardInterrupt), explained(Path("x")):
        raise sqlite3.OperationalError("interrupted")
    with pytest.raises(StoreError), explained(Path("x")):
        raise sqlite3.OperationalError("disk I/O error")
