"""The folder that clip-retrieval's inference writes: what its index and its filters read.

``img_emb/img_emb_0000.npy`` in float16, and ``metadata/metadata_0000.parquet`` with a row per
vector, a million to each pair; autofaiss and embedding-reader take ``img_emb`` as it is.
https://github.com/rom1504/clip-retrieval
"""

from pathlib import Path

from .embedded import Embedded
from .folders import PicturesFile, npy_header

ROWS = 1_000_000


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir()
    for number, count, batches in rows.files(ROWS):
        vectors = folder / "img_emb" / f"img_emb_{number:04}.npy"
        about = folder / "metadata" / f"metadata_{number:04}.parquet"
        with vectors.open("wb") as file, PicturesFile(about, {"key": "image_path"}) as pictures:
            npy_header(file, "float16", count, rows.width)
            for batch in batches:
                file.write(batch.vectors.astype("<f2").tobytes())
                pictures.add(batch)
