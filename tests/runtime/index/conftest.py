import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import bareclip
from tests.variants import picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos in three folders."""
    folder = tmp_path / "photos"
    for i in range(12):
        place = folder / ("", "a", "a/b")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        picture(50 + i, 40, seed=i).save(place / f"{i:02}.jpg")
    return folder


@pytest.fixture
def index(clip: bareclip.Clip, tmp_path: Path) -> Iterator[bareclip.Index]:
    with bareclip.Index.open(tmp_path / "photos.db", clip) as opened:
        yield opened


def names(index: bareclip.Index) -> set[str]:
    """File names of everything with a vector."""
    rows = index._store.items.each()
    return {Path(os.fsdecode(path)).name for _, path, _ in rows}
