"""Folders that are there whole or not at all, and the kinds of files in them."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import ShardError
from .embedded import PICTURE, Batch


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``path`` when the block ends without error.

    After an error nothing is left. A process that is killed meanwhile leaves a folder beside it
    that ends in ``.part``.

    Raises:
        ShardError: There is something of that name; or it cannot be written.
    """
    if os.path.lexists(path):
        raise ShardError(f"{path} is there already; give another name, or remove it")
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        _sync(part)
        part.rename(path)
    except OSError as error:
        raise ShardError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def npy_header(file: IO[bytes], kind: str, rows: int, width: int) -> None:
    """The first bytes of a .npy, behind which the rows come as they are in memory."""
    header = {
        "descr": np.dtype(kind).newbyteorder("<").str,
        "fortran_order": False,
        "shape": (rows, width),
    }
    np.lib.format.write_array_header_1_0(file, header)


class PicturesFile:
    """A Parquet file of what is said of pictures, a row per vector in a file beside it.

    Args:
        path: The file.
        names: Names that readers of such files know columns by: ours -> theirs.
    """

    def __init__(self, path: Path, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._schema = pa.schema([(names.get(one.name, one.name), one.type) for one in PICTURE])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, batch: Batch) -> None:
        renamed = pa.record_batch(batch.pictures.columns, schema=self._schema)
        self._writer.write_batch(renamed)

    def __enter__(self) -> "PicturesFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _sync(folder: Path) -> None:
    """Has what lies below survive a power cut, as the rename that follows will."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:  # Windows syncs no file that is open for reading
                os.fsync(file.fileno())
