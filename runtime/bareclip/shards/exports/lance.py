"""A table of LanceDB's: ``NAME.lance``, with the vectors as lists of a fixed size.

One process writes it, in one commit. https://lancedb.github.io/lancedb/
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import ShardError
from .embedded import PICTURE, Embedded, needed


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``.

    Raises:
        ShardError: LanceDB is not installed, or cannot write.
    """
    lancedb = needed("lancedb", "lancedb")
    kind = pa.float16() if rows.vectors == "float16" else pa.float32()
    schema = pa.schema([*PICTURE, ("vector", pa.list_(kind, rows.width))])
    reader = pa.RecordBatchReader.from_batches(schema, _batches(rows, schema))
    try:
        lancedb.connect(folder).create_table("table", reader, schema=schema)
    except (RuntimeError, ValueError) as error:
        raise ShardError(f"LanceDB cannot write: {' '.join(str(error).split())}") from error
    # It makes tables in folders of their names; this one is to be the folder itself.
    for path in (folder / "table.lance").iterdir():
        path.rename(folder / path.name)
    (folder / "table.lance").rmdir()


def _batches(rows: Embedded, schema: Any) -> Iterator[Any]:
    for batch in rows.batches():
        columns = [*batch.pictures.columns, batch.list_column()]
        yield pa.record_batch(columns, schema=schema)
