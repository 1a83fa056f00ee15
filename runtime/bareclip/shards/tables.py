"""Parquet files of pictures: their bytes, or the paths they lie at, a row per picture."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ShardError
from .pictures import fetch
from .places import Place, is_local
from .records import About, Record

# Rows that are read at a time; their pictures are in memory at once.
_ROWS = 16
# Bytes of a column that are read at a time, rather than the column of a whole row group.
_BUFFER = 1 << 20

# Names by which data sets call their columns, first come first served.
_IMAGES = ("image", "jpg", "png", "webp", "img", "bytes", "image_bytes", "content")
_PATHS = ("path", "image_path", "file_path", "filepath", "filename", "file_name", "file", "image")
_KEYS = ("key", "__key__", "id", "uid", "image_id")
_CAPTIONS = ("caption", "text", "txt")
_URLS = ("url", "URL")


@dataclass(frozen=True)
class Columns:
    """Which columns of a Parquet file are what.

    Attributes:
        image: Bytes, a struct with a field ``bytes``, or paths.
        key: None where rows go by their numbers, or paths by themselves.
    """

    image: str
    key: str | None
    caption: str | None
    url: str | None


@dataclass(frozen=True)
class Described:
    """What planning needs of a Parquet file: its columns, and the rows of each row group."""

    columns: Columns
    groups: tuple[int, ...]


def describe(place: Place, image: str | None, key: str | None) -> Described:
    """Reads the footer of a Parquet file.

    Args:
        place: Where it lies.
        image, key: Names of columns; None for those of a usual name.

    Raises:
        ShardError: It cannot be read, or has no such columns.
    """
    with _opened(place) as file:
        schema, about = file.schema_arrow, file.metadata
        groups = tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))
    for name in (image, key):
        if name is not None and name not in schema.names:
            raise ShardError(
                f"{place.uri} has no column {name!r}; it has {', '.join(schema.names[:20])}"
            )
    chosen = image or _image_column(schema)
    if chosen is None:
        raise ShardError(
            f"{place.uri} has no column of pictures that is known by its name (bytes as "
            f"{', '.join(_IMAGES[:4])}, paths as {', '.join(_PATHS[:2])}); it has "
            f"{', '.join(schema.names[:20])}: give --image-column"
        )
    if _kind(schema.field(chosen).type) is None:
        kind = schema.field(chosen).type
        raise ShardError(
            f"column {chosen!r} of {place.uri} is {kind}; pictures are bytes, a struct with "
            "bytes, or paths"
        )
    columns = Columns(
        chosen,
        key or _first(schema, _KEYS),
        _first(schema, _CAPTIONS, text=True),
        _first(schema, _URLS, text=True),
    )
    return Described(columns, groups)


def read_keys(place: Place, columns: Columns) -> Iterator[str]:
    """The keys of all rows, as ``read_table`` gives them."""
    names = [name for name in (columns.key,) if name]
    with _opened(place) as file:
        if columns.key is None:
            kind = _kind(file.schema_arrow.field(columns.image).type)
            if kind != "path":
                yield from (f"{place.uri}#{row}" for row in range(file.metadata.num_rows))
                return
            names = [columns.image]
        row = 0
        for batch in file.iter_batches(8192, columns=names):
            for value in batch.column(0).to_pylist():
                yield _key(value, place, row)
                row += 1


def read_table(place: Place, columns: Columns, first: int, count: int) -> Iterator[Record]:
    """The pictures of some rows of a Parquet file, in its order.

    Raises:
        ShardError: It cannot be read.
    """
    names = [name for name in vars(columns).values() if name is not None]
    with _opened(place) as file:
        image = file.schema_arrow.field(columns.image).type
        groups, skipped = _groups(file.metadata, first, count)
        row, end = first - skipped, first + count
        try:
            for batch in file.iter_batches(_ROWS, row_groups=groups, columns=names):
                if row + len(batch) > first:
                    used = batch.slice(max(0, first - row), end - max(first, row))
                    yield from _records(used, place, columns, image, max(first, row))
                row += len(batch)
                if row >= end:
                    return
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"cannot read {place.uri}: {' '.join(str(error).split())}") from error


def _records(
    batch: Any, place: Place, columns: Columns, image: Any, first: int
) -> Iterator[Record]:
    held = batch.column(columns.image)
    kind = _kind(image)
    if kind == "struct":
        held = held.field("bytes")
    texts = {
        name: batch.column(name).to_pylist()
        for name in (columns.key, columns.caption, columns.url)
        if name is not None
    }
    for i in range(len(batch)):
        value = held[i].as_py()
        row = first + i
        about = About(
            texts[columns.caption][i] if columns.caption else None,
            texts[columns.url][i] if columns.url else None,
        )
        named = texts[columns.key][i] if columns.key else (value if kind == "path" else None)
        record = Record(_key(named, place, row), place.uri, row, about)
        if value is None:
            record.error = "its row has no picture"
        elif kind == "path":
            record.fetch = partial(fetch, _beside(place, value), None)
        else:
            record.fetch = partial(bytes, value)
        yield record


def _key(value: object, place: Place, row: int) -> str:
    return f"{place.uri}#{row}" if value is None else str(value)


def _beside(place: Place, path: str) -> Place:
    """A path in a table: absolute, an address, or relative to where the table lies."""
    if path.startswith("/") or os.path.isabs(path) or not is_local(path):  # noqa: PTH117
        return Place.at(path)
    return place.parent / path


def _groups(about: Any, first: int, count: int) -> tuple[list[int], int]:
    """Row groups that hold some rows, and how many rows of theirs come before."""
    groups: list[int] = []
    start = skipped = 0
    for i in range(about.num_row_groups):
        end = start + about.row_group(i).num_rows
        if start < first + count and end > first:
            if not groups:
                skipped = first - start
            groups.append(i)
        start = end
    return groups, skipped


def _opened(place: Place) -> Any:
    try:
        # Without pre_buffer, and with a buffer: else a whole row group's pictures are in memory.
        return pq.ParquetFile(place.open(), buffer_size=_BUFFER, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(
            f"cannot read {place.uri} as Parquet: {' '.join(str(error).split())}"
        ) from error


def _image_column(schema: Any) -> str | None:
    for names, kinds in ((_IMAGES, ("bytes", "struct")), (_PATHS, ("path",))):
        for name in names:
            if name in schema.names and _kind(schema.field(name).type) in kinds:
                return name
    return None


def _kind(kind: Any) -> str | None:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "path"
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "struct"
    return None


def _first(schema: Any, names: tuple[str, ...], text: bool = False) -> str | None:
    for name in names:
        if name in schema.names and (not text or _kind(schema.field(name).type) == "path"):
            return name
    return None
