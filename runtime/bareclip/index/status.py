"""What an index says of itself."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..encoders.fingerprint import Fingerprint
from .store import Store
from .sync import FileFailure


@dataclass(frozen=True)
class IndexStatus:
    """What an index holds.

    Attributes:
        made_by: The model and recipe of its vectors.
        bundle: The folder of the model that last wrote to it; None if it does not say.
        photos: Files with a vector.
        added: Vectors from elsewhere.
        other: Files that are no pictures by name and first bytes.
        failures: Files that could not be embedded.
    """

    path: Path
    made_by: Fingerprint
    bundle: str | None
    photos: int
    added: int
    other: int
    failures: list[FileFailure]


def find_status(store: Store) -> IndexStatus:
    """As ``Index.status``; within the store's ``reading``."""
    counts = store.items.counts()
    return IndexStatus(
        path=store.path,
        made_by=store.fingerprint,
        bundle=store.bundle,
        photos=counts.get(("file", "embedded"), 0),
        added=counts.get(("added", "embedded"), 0),
        other=counts.get(("file", "other"), 0),
        failures=[FileFailure(os.fsdecode(path), why) for path, why in store.items.failures()],
    )
