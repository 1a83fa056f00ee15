"""Vectors that leave an index and come back are the same."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import StoreError, VectorError
from bareclip.index import exchange
from tests.machine import needs_any_name
from tests.variants import picture


def rows(index: bareclip.Index) -> list[tuple[Any, ...]]:
    with index._store.reading():
        vectors = np.concatenate(list(index._store.vectors.chunks(0)))
        items = [(os.fsdecode(path), metadata) for _, path, metadata in index._store.items.each()]
    return [(*item, vector.tobytes()) for item, vector in zip(items, vectors, strict=True)]


@pytest.fixture
def filled(index: bareclip.Index, photos: Path) -> bareclip.Index:
    index.sync(photos)
    index.add(["x", "naïve 東京"], np.eye(2, 20), [{"a": [1, "é"]}, None])
    return index


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_round_trip(
    filled: bareclip.Index,
    clip: bareclip.Clip,
    tmp_path: Path,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    monkeypatch.setattr(exchange, "_ROWS", 5)
    path = tmp_path / f"vectors.{ending}"
    assert filled.export_to(path) == 14
    with bareclip.Index.open(tmp_path / "second.db", clip) as second:
        assert second.import_from(path) == 14
        assert rows(second) == rows(filled)
        assert second.import_from(path) == 14
        assert second.status().added == 14
        wanted = [(h.item, h.similarity) for h in filled.search("a cat")]
        assert [(h.item, h.similarity) for h in second.search("a cat")] == wanted


def test_other_programs_read_it(filled: bareclip.Index, tmp_path: Path) -> None:
    filled.export_to(tmp_path / "v.npy")
    vectors = np.load(tmp_path / "v.npy")
    described = json.loads((tmp_path / "v.json").read_text())
    assert vectors.dtype == np.float32
    assert vectors.shape == (14, 20)
    assert described["ids"][-2:] == ["x", "naïve 東京"]
    assert described["metadata"][-2:] == [{"a": [1, "é"]}, None]
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs bareclip[parquet]")
    filled.export_to(tmp_path / "v.parquet")
    table = parquet.read_table(tmp_path / "v.parquet").to_pylist()
    assert [row["id"] for row in table] == described["ids"]
    np.testing.assert_array_equal([row["vector"] for row in table], vectors)


@needs_any_name
def test_names_that_are_not_utf8(index: bareclip.Index, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(50, 40).save(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))
    index.sync(folder)
    for name in ("v.npy", "v.parquet"):
        index.export_to(tmp_path / name)
    ids = json.loads((tmp_path / "v.json").read_text())["ids"]
    assert ids == [f"{folder}/caf\\xe9.jpg"]


def test_vectors_of_other_systems(index: bareclip.Index, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, 20))
    (tmp_path / "v.json").write_text(json.dumps({"ids": ["a", "b", "c"]}))
    assert index.import_from(tmp_path / "v.npy") == 3
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    import pyarrow.parquet

    table = pa.table({"id": ["d", "e"], "vector": [np.ones(20).tolist(), np.arange(20).tolist()]})
    pyarrow.parquet.write_table(table, tmp_path / "v.parquet")
    assert index.import_from(tmp_path / "v.parquet") == 2
    assert index.search(np.arange(20.0), k=1)[0].item == "e"


def test_a_file_is_imported_whole_or_not_at_all(
    filled: bareclip.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_ROWS", 3)
    before = rows(filled)

    def refuse(vectors: Any, ids: Any, error: type[Exception], message: str) -> None:
        np.save(tmp_path / "v.npy", vectors)
        (tmp_path / "v.json").write_text(json.dumps({"ids": ids}))
        with pytest.raises(error, match=message):
            filled.import_from(tmp_path / "v.npy")
        assert rows(filled) == before

    zero = np.eye(8, 20)
    zero[6] = 0
    refuse(zero, [*"xbcdefgh"], VectorError, "zero or not finite")
    refuse(np.eye(8, 20), [*"xbcdefgx"], VectorError, "id 'x' is there twice; ids must be distinct")
    refuse(np.eye(8, 20), [*"xbbdefgh"], VectorError, "id 'b' is there twice; ids must be distinct")
    refuse(np.eye(3, 20), "abc", StoreError, "ids are of type str, .*; both are lists")
    refuse(np.eye(2, 20), ["x", "\ud800"], VectorError, "half of a surrogate pair")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, 2.0], "vector is double; it must be a list of 20 floats"),
        ([[1.0] * 10, [1.0] * 30], "the vector of 'a' has 10 numbers, not 20"),
        ([[1.0] * 20, None], "the vector of 'b' has no numbers, not 20"),
        ([[1.0] * 20, [1.0] * 19 + [None]], "cannot read vectors"),
    ],
)
def test_columns_that_hold_no_vectors(
    index: bareclip.Index, tmp_path: Path, column: Any, message: str
) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        pa.table({"id": ["a", "b"], "vector": column}), tmp_path / "v.parquet"
    )
    with pytest.raises(StoreError, match=message):
        index.import_from(tmp_path / "v.parquet")
    assert not index.path.exists()


def test_what_cannot_be_read_or_written(
    filled: bareclip.Index, bundles: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"must end in \.parquet or \.npy"):
        filled.export_to(tmp_path / "v.csv")
    with pytest.raises(StoreError, match="is not a folder"):
        filled.export_to(tmp_path / "none" / "v.npy")
    with pytest.raises(StoreError, match="cannot read vectors from .*No such file"):
        filled.import_from(tmp_path / "none.npy")
    for data in (b"hello", b""):
        (tmp_path / "bad.npy").write_bytes(data)
        with pytest.raises(StoreError, match="cannot read vectors from"):
            filled.import_from(tmp_path / "bad.npy")
    np.save(tmp_path / "v.npy", np.eye(3, 20))
    (tmp_path / "v.json").write_text(json.dumps({"ids": ["a"]}))
    with pytest.raises(StoreError, match="1 ids beside 3 vectors"):
        filled.import_from(tmp_path / "v.npy")
    (tmp_path / "v.json").write_text("[]")
    with pytest.raises(StoreError, match="cannot read vectors"):
        filled.import_from(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", np.eye(3, 21))
    (tmp_path / "v.json").write_text(json.dumps({"ids": ["a", "b", "c"]}))
    with pytest.raises(VectorError, match=r"give \(N, 20\)"):
        filled.import_from(tmp_path / "v.npy")
    other = bareclip.load(bundles["odd"])
    filled.export_to(tmp_path / "v.npy")
    with (
        bareclip.Index.open(tmp_path / "odd.db", other) as odd,
        pytest.raises(StoreError, match="has model 'tiny' where it has 'odd'"),
    ):
        odd.import_from(tmp_path / "v.npy")
