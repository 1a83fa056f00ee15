"""A backup that was restored hands out ids again: what was derived from the others is not used."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.index.vector_rows import VectorRows
from bareclip.scoring.vectors import normalize
from tests.variants import picture

from .conftest import names


def unit(count: int) -> Any:
    return normalize(np.random.default_rng(0).standard_normal((count, 20))).astype(np.float32)


def check(index: bareclip.Index, ids: list[str], rows: Any, approximate: bool) -> None:
    answers = index.search_many(list(rows), k=1, approximate=approximate)
    found = [hits[0].item for hits in answers]
    # A small graph, made in threads, misses some; with vectors of others it would miss half.
    missed = sum(a != b for a, b in zip(found, ids, strict=True))
    assert missed <= approximate * len(ids) / 4


@pytest.fixture(params=[False, True], ids=["exact", "approximate"])
def approximate(request: pytest.FixtureRequest) -> bool:
    if request.param:
        pytest.importorskip("usearch", reason="needs bareclip[ann]")
    return bool(request.param)


def filled(path: Path, clip: bareclip.Clip, ids: list[str], rows: Any, approximate: bool) -> None:
    with bareclip.Index.open(path, clip) as index:
        index.add(ids, rows)
        check(index, ids, rows, approximate)


def test_vectors_of_the_lost_future_are_not_found(
    clip: bareclip.Clip, tmp_path: Path, approximate: bool
) -> None:
    rows = unit(60)
    db, backup = tmp_path / "photos.db", tmp_path / "backup.db"
    kept, lost, new = ([f"{name} {i}" for i in range(20)] for name in ("kept", "lost", "new"))
    filled(db, clip, kept, rows[:20], approximate)
    shutil.copy(db, backup)
    filled(db, clip, lost, rows[20:40], approximate)
    shutil.copy(backup, db)
    with bareclip.Index.open(db, clip) as index:
        check(index, kept, rows[:20], approximate)
        assert len(index.search(rows[3], k=40)) == 20
    shutil.copy(backup, db)
    filled(db, clip, lost, rows[20:40], approximate)
    shutil.copy(backup, db)
    with bareclip.Index.open(db, clip) as index:
        # As many: the same ids and the same generation.
        index.add(new, rows[40:])
        check(index, kept + new, rows[[*range(20), *range(40, 60)]], approximate)
        for hits in index.search_many(list(rows[20:40]), k=1, approximate=approximate):
            assert hits[0].similarity < 0.99
        assert len(list(tmp_path.glob("*.hnsw"))) == approximate


def test_other_photos_were_removed_before_the_restore(
    clip: bareclip.Clip, photos: Path, tmp_path: Path
) -> None:
    db, backup = tmp_path / "photos.db", tmp_path / "backup.db"
    with bareclip.Index.open(db, clip) as index:
        index.sync(photos)
    shutil.copy(db, backup)
    (photos / "00.jpg").rename(tmp_path / "00.jpg")
    with bareclip.Index.open(db, clip) as index:
        index.sync(photos)
    shutil.copy(backup, db)
    (tmp_path / "00.jpg").rename(photos / "00.jpg")
    (photos / "03.jpg").unlink()
    with bareclip.Index.open(db, clip) as index:
        assert index.sync(photos).removed == 1
        found = {Path(hit.item).name for hit in index.search("a cat", k=20)}
        assert found == names(index)
        assert "00.jpg" in found


def test_only_what_was_added_is_read(
    index: bareclip.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = unit(102)
    index.add([str(i) for i in range(100)], rows[:100])
    index.search(rows[0])
    read: list[int] = []
    inner = VectorRows.chunks
    monkeypatch.setattr(VectorRows, "chunks", lambda *a: (read.append(a[1]), inner(*a))[1])
    for i in (100, 101):
        index.add([str(i)], rows[i : i + 1])
        with bareclip.Index.open(index.path) as fresh:
            check(fresh, [str(i)], rows[i : i + 1], approximate=False)
    assert read == [101, 101]


def test_an_index_from_before_there_were_tokens(
    clip: bareclip.Clip, tmp_path: Path, approximate: bool
) -> None:
    rows, ids = unit(21), [str(i) for i in range(21)]
    db = tmp_path / "photos.db"
    filled(db, clip, ids[:20], rows[:20], approximate)
    with bareclip.Index.open(db) as index:
        index._store._db.execute("DELETE FROM meta WHERE name LIKE 'token %'")
        old = f"photos.db.{index._store.state().store}-20.hnsw"
    for derived in tmp_path.glob("*.hnsw"):
        derived.rename(tmp_path / old)
    for _ in range(2):
        with bareclip.Index.open(db) as index:
            check(index, ids[:20], rows[:20], approximate)
    with bareclip.Index.open(db, clip) as index:
        index.add(ids[20:], rows[20:])
        check(index, ids, rows, approximate)
    assert not (tmp_path / old).exists()


def test_files_of_any_version_are_no_photos(index: bareclip.Index, photos: Path) -> None:
    for name in ("0123456789abcdef-20", "0123456789abcdef-20-fedcba9876543210"):
        picture(50, 40).save(index.path.with_name(f"photos.db.{name}.hnsw"), "PNG")
    index.sync(index.path.parent)
    assert (index.status().photos, index.status().other) == (12, 0)
