"""A set of pictures in tars, Parquet and a folder, with all that goes wrong in one."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.variants import picture

# What tests/runtime/shards/killer looks for.
_KILLS = b"this picture kills its decoder"

Sample = tuple[str, str, bytes]  # key, ending, bytes


def jpeg(seed: int, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    picture(64, 48, seed=seed).save(file, "JPEG", comment=comment)
    return file.getvalue()


def killer() -> bytes:
    return jpeg(0, _KILLS)


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def write_set(root: Path, tars: int = 13, each: int = 130) -> tuple[list[Path], dict[str, bool]]:
    """Writes ``tars`` tars, a Parquet file that is two shards, and a folder that is one.

    Returns:
        The sources, and each key -> whether its picture can be embedded.
    """
    root.mkdir()
    expected: dict[str, bool] = {}
    for number in range(tars):
        good = [(f"{number:03}{i:06}", "jpg", jpeg(number * each + i)) for i in range(each)]
        expected |= {key: True for key, _, _ in good}
        path = root / f"{number:05}.tar"
        bad: list[Sample] = []
        if number % 3 == 1:
            bad += [(f"{number:03}broken", "jpg", b"hello"), (f"{number:03}bomb", "png", bomb())]
        if number == 4:
            bad.append(("killer", "jpg", killer()))
        expected |= {key: False for key, _, _ in bad}
        twice = [good[0]] if number == 7 else []
        middle = each // 2
        _write_tar(path, [*good[:middle], *bad, *good[middle:], *twice])
        if number == 10:
            # In the middle of the header of the last picture but four.
            offset = _offset(path, good[-5][0])
            path.write_bytes(path.read_bytes()[: offset + 100])
            for key, _, _ in good[-5:]:
                del expected[key]
    rows: list[tuple[str, bytes | None]] = [(f"row-{i}", jpeg(5000 + i)) for i in range(2 * each)]
    rows[17] = ("row-17", None)
    rows[18] = ("row-18", b"")
    expected |= {key: bool(data) for key, data in rows}
    pq.write_table(
        pa.table({"key": [key for key, _ in rows], "image": [data for _, data in rows]}),
        root / "rows.parquet",
    )
    (root / "folder").mkdir()
    for i in range(each):
        path = root / "folder" / f"{i:04}.jpg"
        path.write_bytes(jpeg(9000 + i) if i != 5 else b"")
        expected[str(path)] = i != 5
    sources = [root / "*.tar", root / "rows.parquet", root / "folder"]
    return sources, expected


def _write_tar(path: Path, samples: Iterable[Sample]) -> None:
    with tarfile.open(path, "w") as archive:
        for key, ending, data in samples:
            about = json.dumps({"url": f"http://example.org/{key}"}).encode()
            for name, content in (
                (f"{key}.{ending}", data),
                (f"{key}.json", about),
                (f"{key}.txt", f"the caption of {key}".encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _offset(path: Path, key: str) -> int:
    with tarfile.open(path) as archive:
        return next(one.offset for one in archive if one.name.startswith(key))
