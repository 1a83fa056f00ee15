"""A .npz and a .parquet per shard, as DataComp has its metadata: ``uid``, ``text``, ``url``.

The array is named as there, ``b32_img`` or ``l14_img``, where the model is a ViT of such a size.
https://github.com/mlfoundations/datacomp
"""

import re
import zipfile
from pathlib import Path

from .embedded import Embedded
from .folders import PicturesFile, npy_header

_NAMES = {"key": "uid", "caption": "text"}


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``."""
    name = array_name(rows.model.model)
    first = 0
    for shard, count in rows.counts.items():
        place = folder / f"{shard:06}"
        # Not numpy.savez(), which would want all vectors of a shard at once.
        with (
            zipfile.ZipFile(place.with_suffix(".npz"), "w") as archive,
            archive.open(f"{name}.npy", "w", force_zip64=True) as file,
            PicturesFile(place.with_suffix(".parquet"), _NAMES) as pictures,
        ):
            npy_header(file, rows.vectors, count, rows.width)
            for batch in rows.shard(shard, first):
                file.write(batch.vectors.tobytes())
                pictures.add(batch)
        first += count


def array_name(model: str) -> str:
    """What DataComp calls the pictures' vectors of a model; ``img`` of one that it has not.

    Examples:
        >>> [array_name(name) for name in ("ViT-L-14", "openai/clip-vit-base-patch32", "tiny")]
        ['l14_img', 'b32_img', 'img']
    """
    found = re.search(r"vit-(b|l)(?:ase|arge)?-(?:patch)?(\d\d)(?!\d)", model.lower())
    return f"{found[1]}{found[2]}_img" if found else "img"
