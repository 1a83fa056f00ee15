"""A FAISS index that compares all vectors, and the keys of its rows.

``index.faiss`` is an ``IndexFlatIP`` of unit vectors, so that inner products are cosines; row i
of ``keys.parquet`` says what its number i is. https://github.com/facebookresearch/faiss
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ShardError
from .embedded import Embedded, needed
from .folders import PicturesFile


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``.

    Raises:
        ShardError: FAISS is not installed, or writes its files in another way.
    """
    faiss = needed("faiss", "faiss-cpu")
    _check_header(faiss, rows.width)
    path = folder / "index.faiss"
    # FAISS itself writes, and reads, a flat index only with all of it in memory.
    with path.open("wb") as file, PicturesFile(folder / "keys.parquet") as pictures:
        file.write(_header(len(rows), rows.width))
        for batch in rows.batches():
            file.write(batch.unit().astype("<f4", copy=False).tobytes())
            pictures.add(batch)


def _header(count: int, width: int) -> bytes:
    """What a flat index's file begins with; its vectors follow, as they are in memory.

    Kind, width, vectors, two numbers without meaning, trained, metric (0 is the inner product),
    numbers: ``faiss/impl/index_write.cpp``.
    """
    numbers = count * width
    return struct.pack("<4siqqqBiQ", b"IxFI", width, count, 1 << 20, 1 << 20, 1, 0, numbers)


def _check_header(faiss: Any, width: int) -> None:
    """Refuses a FAISS that would write an index of one vector in another way."""
    index = faiss.IndexFlatIP(width)
    one = np.ones((1, width), np.float32)
    index.add(one)
    if faiss.serialize_index(index).tobytes() != _header(1, width) + one.tobytes():
        raise ShardError(
            f"FAISS {faiss.__version__} writes flat indexes in a way that this bareclip does not "
            "know: update bareclip, or export to clip-retrieval's files, which autofaiss reads"
        )
