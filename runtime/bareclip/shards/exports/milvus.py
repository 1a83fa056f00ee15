"""Parquet files for Milvus's bulk import.

Columns ``id`` (INT64, the row's number), ``vector`` (FLOAT_VECTOR, of length 1), ``key``,
``source``, ``caption`` and ``url`` (VARCHAR; empty where there is none). What is over the
longest VARCHAR is cut. https://milvus.io/docs/import-data.md
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .embedded import Batch, Embedded

# Half a gigabyte at 512 numbers per vector; Milvus takes 16 GB, and imports files side by side.
ROWS = 250_000
# Bytes of UTF-8.
_LONGEST = 65_535
_TEXTS = ("key", "source", "caption", "url")


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``."""
    # Milvus knows lists, and none of a fixed size.
    vector = ("vector", pa.list_(pa.float32()))
    schema = pa.schema([("id", pa.int64()), vector, *((name, pa.string()) for name in _TEXTS)])
    for number, _, batches in rows.files(ROWS):
        path = folder / f"{number:06}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                columns = [pa.array(batch.ids), _lists(batch), *(_texts(batch, n) for n in _TEXTS)]
                writer.write_batch(pa.record_batch(columns, schema=schema))


def _lists(batch: Batch) -> Any:
    unit = batch.unit()
    starts = np.arange(len(unit) + 1, dtype=np.int32) * unit.shape[1]
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(unit.ravel()))


def _texts(batch: Batch, name: str) -> Any:
    return pa.array([_cut(text) for text in batch.pictures.column(name).to_pylist()], pa.string())


def _cut(text: str | None) -> str:
    if text is None or len(text) * 4 <= _LONGEST:
        return text or ""
    return text.encode()[:_LONGEST].decode(errors="ignore")
