"""Vectors to and from other systems: Parquet, and NumPy's .npy with a .json beside it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..files import replacing
from .fingerprint import Fingerprint
from .query import Batch
from .store import Store

# Rows of a Parquet row group, and read at a time when they come back.
_ROWS = 8192
# Where Parquet's schema, and the .json, name the model.
_MODEL = "bareclip"


def write_vectors(store: Store, path: Path) -> int:
    """As ``Index.export_to``, within the store's ``reading``."""
    kind = _kind(path)
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: {path.parent} is not a folder")
    items = [(_text(name), metadata) for _, name, metadata in store.items()]
    write = _write_parquet if kind == ".parquet" else _write_npy
    write(store, path, items)
    return len(items)


def read_vectors(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    """Ids, vectors and metadata, some thousand rows at a time.

    Raises:
        StoreError: It cannot be read, or names another model than ``made_by``.
    """
    read = _read_parquet if _kind(path) == ".parquet" else _read_npy
    try:
        yield from read(path, made_by)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"cannot read vectors from {path}: {error}; it must be as an export is"
        ) from error


def _kind(path: Path) -> str:
    if path.suffix not in (".parquet", ".npy"):
        raise StoreError(f"{path} must end in .parquet or .npy")
    return path.suffix


def _text(name: bytes) -> str:
    # Other systems want UTF-8; a byte that is not becomes the four characters \xff.
    return name.decode("utf-8", "backslashreplace")


def _model(store: Store) -> str:
    return json.dumps(asdict(store.fingerprint))


def _check_model(model: str | None, made_by: Fingerprint) -> None:
    if model is not None:
        made_by.check(Fingerprint(**json.loads(model)), "the index")


def _write_npy(store: Store, path: Path, items: list[tuple[str, str | None]]) -> None:
    shape = (len(items), store.fingerprint.width)
    with replacing(path) as file, replacing(path.with_suffix(".json")) as beside:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in store.vectors(0):
            file.write(rows.tobytes())
        described = {
            _MODEL: _model(store),
            "ids": [name for name, _ in items],
            "metadata": [None if data is None else json.loads(data) for _, data in items],
        }
        beside.write(json.dumps(described).encode())


def _read_npy(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    vectors = np.load(path, mmap_mode="r")
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if not isinstance(described, dict):
        raise ValueError(f"{path.with_suffix('.json')} holds no object")
    _check_model(described.get(_MODEL), made_by)
    ids, metadata = described["ids"], described.get("metadata")
    if not isinstance(ids, list) or not isinstance(metadata, list | None):
        kinds = f"ids are of type {type(ids).__name__}, metadata of {type(metadata).__name__}"
        raise ValueError(f"{kinds}; both are lists")
    if len(ids) != len(vectors) or len(metadata or ids) != len(ids):
        raise ValueError(f"{len(ids)} ids beside {len(vectors)} vectors")
    for start in range(0, len(ids), _ROWS):
        rows = slice(start, start + _ROWS)
        yield ids[rows], vectors[rows], metadata[rows] if metadata else None


def _pyarrow() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise StoreError(
            f"Parquet needs pyarrow ({error}): pip install 'bareclip[parquet]'"
        ) from error
    return pyarrow


def _write_parquet(store: Store, path: Path, items: list[tuple[str, str | None]]) -> None:
    pa = _pyarrow()
    width = store.fingerprint.width
    columns = {"id": pa.string(), "vector": pa.list_(pa.float32(), width), "metadata": pa.string()}
    schema = pa.schema(columns.items(), metadata={_MODEL: _model(store)})
    row = 0
    with replacing(path) as file, pa.parquet.ParquetWriter(file, schema) as writer:
        for rows in store.vectors(0):
            names, metadata = zip(*items[row : row + len(rows)], strict=True)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)
            writer.write_table(
                pa.table([pa.array(names), vectors, pa.array(metadata, pa.string())], schema=schema)
            )
            row += len(rows)


def _read_parquet(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    pa = _pyarrow()
    with pa.parquet.ParquetFile(path) as file:
        model = (file.schema_arrow.metadata or {}).get(_MODEL.encode())
        _check_model(None if model is None else model.decode(), made_by)
        described = "metadata" in file.schema_arrow.names
        for batch in file.iter_batches(_ROWS):
            ids = batch["id"].to_pylist()
            vectors = _flat(batch["vector"], ids, made_by.width).reshape(len(ids), -1)
            metadata = batch["metadata"].to_pylist() if described else [None] * len(ids)
            yield ids, vectors, [None if data is None else json.loads(data) for data in metadata]


def _flat(column: Any, ids: list[str], width: int) -> NDArray[Any]:
    """The numbers of a column of lists, all of them ``width`` long."""
    pa = _pyarrow()
    if not isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        raise ValueError(f"vector is {column.type}; it must be a list of {width} floats")
    for name, length in zip(ids, pa.compute.list_value_length(column).to_pylist(), strict=True):
        if length != width:
            raise ValueError(f"the vector of {name!r} has {length or 'no'} numbers, not {width}")
    numbers: NDArray[Any] = column.flatten().to_numpy()
    return numbers
