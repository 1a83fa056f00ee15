"""Pictures in pipelines of Ray Data and Spark, by the real ones."""

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")

import pyarrow as pa
import pyarrow.parquet as pq

import bareclip
import bareclip.integrations.ray
import bareclip.integrations.spark
from bareclip import BareclipError
from tests.shards.pictures import bomb, jpeg

load = functools.partial(bareclip.load, threads=1)
FILES = {f"{number:02}.jpg": jpeg(number) for number in range(9)}
BAD = {"10.png": bomb(), "11.jpg": b"hello", "12.jpg": b""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("photos")
    for name, data in (FILES | BAD).items():
        (found / name).write_bytes(data)
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return dict(zip(FILES, bareclip.load().embed_images(FILES.values()), strict=True))


def test_a_table_of_bytes(expected: dict[str, Any]) -> None:
    files = {**FILES, **BAD, "none": None}
    table = pa.table({"n": range(len(files)), "bytes": list(files.values()), "name": list(files)})
    found = bareclip.integrations.ray.Embedder(load)(table)
    assert found.schema == pa.schema(
        [
            ("n", pa.int64()),
            ("name", pa.string()),
            ("vector", pa.list_(pa.float32(), 128)),
            ("error", pa.string()),
        ]
    )
    assert found["name"].to_pylist() == list(files)
    rows = {row["name"]: row for row in found.to_pylist()}
    assert rows.keys() == files.keys()
    check(rows, expected)
    assert found["error"].to_pylist()[-1] == "it is null"
    assert len(bareclip.integrations.ray.Embedder(load)(table.slice(0, 0))["vector"]) == 0


def test_batches_that_are_none() -> None:
    embedder = bareclip.integrations.ray.Embedder(load)
    with pytest.raises(BareclipError, match='give batch_format="pyarrow"'):
        embedder({"bytes": np.array([b""], object)})
    with pytest.raises(BareclipError, match="no column 'bytes' among a, b"):
        embedder(pa.table({"a": [1], "b": [2]}))
    with pytest.raises(BareclipError, match="'bytes' is of string"):
        embedder(pa.table({"bytes": ["a.jpg"]}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Data's own settings
def test_ray_data(folder: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs bareclip[ray]")
    pytest.importorskip("ray.data", reason="needs ray[data]")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        ray.data.read_binary_files(str(folder), include_paths=True).map_batches(
            bareclip.integrations.ray.Embedder,
            fn_constructor_kwargs={"clip": load},
            batch_format="pyarrow",
            batch_size=4,
            concurrency=1,
        ).write_parquet(str(tmp_path / "vectors"))
    finally:
        ray.shutdown()
    table = pq.read_table(tmp_path / "vectors")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 128)
    rows = {Path(row["path"]).name: row for row in table.to_pylist()}
    assert rows.keys() == (FILES | BAD).keys()
    check(rows, expected)


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="needs PySpark")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_spark(spark: Any, folder: Path, expected: dict[str, Any]) -> None:
    photos = spark.read.format("binaryFile").load(str(folder)).select("path", "content")
    found = photos.mapInPandas(
        bareclip.integrations.spark.embedder(load), "path string, vector array<float>, error string"
    ).collect()
    rows = {Path(row["path"]).name: row.asDict() for row in found}
    assert rows.keys() == (FILES | BAD).keys() - {"12.jpg"}  # Spark leaves out empty files
    check(rows, expected)


def check(rows: dict[str, dict[str, Any]], expected: dict[str, Any]) -> None:
    for name, row in rows.items():
        if name in FILES:
            assert row["error"] is None
            np.testing.assert_allclose(row["vector"], expected[name], rtol=0, atol=2e-6)
        else:
            # Arrow has lists of nulls, Spark has nulls.
            assert set(row["vector"] or [None]) == {None}
            assert row["error"]
