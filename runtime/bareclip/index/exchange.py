"""Vectors to and from other systems: Parquet, and NumPy's .npy with a .json beside it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..encoders.fingerprint import Fingerprint
from ..errors import BareclipError, StoreError, short
from ..files import replacing
from .adding import Batch
from .database import one_line
from .store import Store

# Rows of a Parquet row group, and of a .npy's read at a time.
_ROWS = 8192
# Of a Parquet file's read at a time, and the most that their texts may hold: few kilobytes can say
# that a text of a megabyte comes thousands of times.
_ROWS_READ = 256
_LARGEST_TEXTS = 1 << 28
_LARGEST_GROUP = 1 << 30
# Where Parquet's schema, and the .json, name the model.
_MODEL = "bareclip"
# Names, metadata, and tags where the index has some.
_Items: TypeAlias = list[tuple[str, dict[str, Any] | None, list[dict[str, Any]]]]


def write_vectors(store: Store, path: Path) -> int:
    """As ``Index.export_to``, within the store's ``reading``."""
    kind = _kind(path)
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: {path.parent} is not a folder")
    tagged = dict(store.tags.by_item())
    items = [
        (_text(name), metadata, [asdict(tag) for tag in tagged.get(item, ())])
        for item, name, metadata in store.items.each()
    ]
    write = _write_parquet if kind == ".parquet" else _write_npy
    try:
        write(store, path, items)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return len(items)


def read_vectors(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    """Ids, vectors and metadata, some thousand rows at a time.

    Raises:
        StoreError: It cannot be read, or names another model than ``made_by``.
    """
    read = _read_parquet if _kind(path) == ".parquet" else _read_npy
    try:
        for place in (path, path.with_suffix(".json")) if path.suffix == ".npy" else (path,):
            if place.exists() and not place.is_file():  # a pipe would be waited for
                raise ValueError(f"{place.name} is not a file")
        yield from read(path, made_by)
    except BareclipError:
        raise
    except Exception as error:  # Readers raise nearly anything on hostile files.
        raise StoreError(
            f"cannot read vectors from {path}: {one_line(error)}; it must be as an export is"
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
        made_by.check(Fingerprint.parse(model), "the index")


def _write_npy(store: Store, path: Path, items: _Items) -> None:
    shape = (len(items), store.fingerprint.width)
    with replacing(path) as file, replacing(path.with_suffix(".json")) as beside:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in store.vectors.chunks(0):
            file.write(rows.tobytes())
        described: dict[str, Any] = {
            _MODEL: _model(store),
            "ids": [name for name, _, _ in items],
            "metadata": [metadata for _, metadata, _ in items],
        }
        if store.tags.there:
            described["tags"] = [tags for _, _, tags in items]
        beside.write(json.dumps(described).encode())


def _read_npy(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    vectors = np.lib.format.open_memmap(path, mode="r")
    described = _json(path.with_suffix(".json").read_text(encoding="utf-8"))
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


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _pyarrow() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise StoreError(
            f"Parquet needs pyarrow ({error}): pip install 'bareclip[parquet]'"
        ) from error
    return pyarrow


def _write_parquet(store: Store, path: Path, items: _Items) -> None:
    pa = _pyarrow()
    width = store.fingerprint.width
    columns = {"id": pa.string(), "vector": pa.list_(pa.float32(), width), "metadata": pa.string()}
    if store.tags.there:
        tag = {"label": pa.string(), "probability": pa.float64()}
        columns["tags"] = pa.list_(pa.struct(tag.items()))
    schema = pa.schema(columns.items(), metadata={_MODEL: _model(store)})
    row = 0
    with replacing(path) as file, pa.parquet.ParquetWriter(file, schema) as writer:
        for rows in store.vectors.chunks(0):
            names, objects, tags = zip(*items[row : row + len(rows)], strict=True)
            metadata = [None if data is None else json.dumps(data) for data in objects]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)
            found = [pa.array(names), vectors, pa.array(metadata, pa.string())]
            if "tags" in columns:
                found.append(pa.array(tags, columns["tags"]))
            writer.write_table(pa.table(found, schema=schema))
            row += len(rows)


def _read_parquet(path: Path, made_by: Fingerprint) -> Iterator[Batch]:
    pa = _pyarrow()
    about = pa.parquet.read_metadata(path)
    schema = about.schema.to_arrow_schema()
    model = (schema.metadata or {}).get(_MODEL.encode())
    _check_model(None if model is None else model.decode(), made_by)
    _check_sizes(about, made_by.width)
    # Texts stay as the file has them, one of each, until it is known how long they are.
    texts = [name for name in ("id", "metadata") if name in schema.names]
    with pa.parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(_ROWS_READ, columns=[*texts, "vector"]):
            ids = _texts(batch["id"])
            vectors = _flat(batch["vector"], ids, made_by.width).reshape(len(ids), -1)
            metadata = _texts(batch["metadata"]) if "metadata" in texts else [None] * len(ids)
            yield ids, vectors, [None if data is None else _json(data) for data in metadata]


def _check_sizes(about: Any, width: int) -> None:
    """Refuses a file that says it holds far more than vectors, before any of it is read."""
    for group in range(about.num_row_groups):
        rows = about.row_group(group)
        for place in range(rows.num_columns):
            column = rows.column(place)
            name = column.path_in_schema.partition(".")[0]
            if name == "vector" and column.num_values > rows.num_rows * width:
                raise ValueError(
                    f"{rows.num_rows:,} vectors have {column.num_values:,} numbers; "
                    f"each must have {width}"
                )
            if name in ("id", "vector", "metadata") and column.total_uncompressed_size > max(
                _LARGEST_GROUP, 9 * rows.num_rows * width
            ):
                raise ValueError(f"{name} of a row group is over 1 GiB; write smaller row groups")


def _texts(column: Any) -> list[Any]:
    pa = _pyarrow()
    if isinstance(column, pa.DictionaryArray) and len(column.dictionary):
        lengths = pa.compute.binary_length(column.dictionary).cast(pa.int64())
        total = pa.compute.sum(lengths.take(column.indices)).as_py() or 0
        if total > _LARGEST_TEXTS:
            raise ValueError(
                f"{len(column)} texts have {total:,} bytes; at most {_LARGEST_TEXTS:,} are read"
            )
    found: list[Any] = column.to_pylist()
    return found


def _flat(column: Any, ids: list[str], width: int) -> NDArray[Any]:
    """The numbers of a column of lists, all of them ``width`` long."""
    pa = _pyarrow()
    if not isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        raise ValueError(f"vector is {column.type}; it must be a list of {width} floats")
    for name, length in zip(ids, pa.compute.list_value_length(column).to_pylist(), strict=True):
        if length != width:
            raise ValueError(
                f"the vector of {short(name)} has {length or 'no'} numbers, not {width}"
            )
    numbers: NDArray[Any] = column.flatten().to_numpy()
    return numbers
