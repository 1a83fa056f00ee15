"""Two files that Qdrant's client uploads: ``vectors.npy``, and ``payload.jsonl`` beside it.

Its ``upload_collection`` takes an array that is mapped from disk and an iterable of payloads.
https://qdrant.tech/documentation/tutorials/bulk-upload/
"""

import json
from pathlib import Path

from .embedded import Embedded
from .folders import npy_header


def write(rows: Embedded, folder: Path) -> None:
    """Fills ``folder``."""
    vectors, payload = folder / "vectors.npy", folder / "payload.jsonl"
    with vectors.open("wb") as file, payload.open("w", encoding="ascii") as lines:
        npy_header(file, rows.vectors, len(rows), rows.width)
        for batch in rows.batches():
            file.write(batch.vectors.tobytes())
            for picture in batch.pictures.to_pylist():
                known = {name: value for name, value in picture.items() if value is not None}
                lines.write(json.dumps(known) + "\n")
