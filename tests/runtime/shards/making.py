"""Sources of pictures that tests make: tars, Parquet files, folders, and what is wrong in them."""

import io
import json
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tests.variants import picture


def jpeg(seed: int, width: int = 50, height: int = 40, **options: Any) -> bytes:
    file = io.BytesIO()
    picture(width, height, seed=seed).save(file, "JPEG", **options)
    return file.getvalue()


@cache
def bomb() -> bytes:
    """A PNG of few bytes that would be 400 megapixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            add(archive, name, data)
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def samples(start: int, count: int) -> list[tuple[str, bytes]]:
    """As img2dataset writes them: picture, caption and JSON under one key."""
    found = []
    for i in range(start, start + count):
        told = {
            "url": f"http://example.org/{i}",
            "caption": f"the caption of {i}",
            "key": f"{i:09}",
        }
        found += [
            (f"{i:09}.jpg", jpeg(i)),
            (f"{i:09}.json", json.dumps(told).encode()),
            (f"{i:09}.txt", f"the caption of {i}".encode()),
        ]
    return found


def write_folder(path: Path, count: int) -> Path:
    for i in range(count):
        place = path / ("", "a", "a/b")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.jpg").write_bytes(jpeg(1000 + i))
    return path
