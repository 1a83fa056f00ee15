"""Files to import, from anywhere: read, or refused in one line, in bounded memory."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import BareclipError, StoreError
from bareclip.index import exchange
from tests.machine import needs_posix

# More of them, as 2000, are tried now and then.
MUTATIONS = int(os.environ.get("BARECLIP_FUZZ", "60"))
COUNT, WIDTH = 40, 20
IDS = [f"n{i}" for i in range(COUNT)]
ROWS = np.random.default_rng(5).standard_normal((COUNT, WIDTH)).astype(np.float32)


def write(place: Path, ids: Any = IDS, rows: Any = ROWS, **more: Any) -> Path:
    np.save(place / "v.npy", rows)
    (place / "v.json").write_text(json.dumps({"ids": ids, **more}))
    return place / "v.npy"


def write_parquet(place: Path, columns: dict[str, Any], **options: Any) -> Path:
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns), place / "v.parquet", **options)
    return place / "v.parquet"


def mutant(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 20))):
        at = rng.randrange(min(len(changed), rng.choice((200, len(changed)))))
        if rng.random() < 0.5:  # the end is where Parquet describes itself
            at = len(changed) - 1 - at
        match rng.randrange(4):
            case 0:
                changed[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
            case 1:
                del changed[at : at + rng.choice((1, 8, 100))]
            case 2:
                changed[at:at] = rng.choice((b"9", b"[", b"-", b"\0\0\0\0", b"1e999", b"NaN"))
            case 3:
                changed[at : at + 8] = rng.randbytes(8)
        if not changed:
            break
    return bytes(changed)


def outcome(index: bareclip.Index, path: Path) -> bool:
    """Whether a file was imported; a refusal is one line, and costs nothing."""
    before = index.status().added
    try:
        index.import_from(path)
    except BareclipError as error:
        line = str(error)
    else:
        return True
    assert "\n" not in line
    assert len(line) < 1000
    assert index.status().added == before
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["npy", "json", "parquet"])
def test_mutated_files(index: bareclip.Index, tmp_path: Path, ending: str) -> None:
    index.add(["kept"], np.ones((1, WIDTH)))
    if ending == "parquet":
        columns = {"id": IDS, "vector": [*ROWS], "metadata": ['{"a": 1}', None] * 20}
        path = write_parquet(tmp_path, columns)
    else:
        path = write(tmp_path, metadata=[{"a": 1}, None] * 20)
    whole = path.with_suffix(f".{ending}").read_bytes()
    read = 0
    for seed in range(MUTATIONS):
        path.with_suffix(f".{ending}").write_bytes(mutant(whole, random.Random(seed)))
        read += outcome(index, path)
    assert 0 < read < MUTATIONS
    assert len(index.search(np.ones(WIDTH), k=5)) == 5


def npy(header: str) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


NPY: dict[str, bytes] = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (40, 20)}"),
    "endless": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 20)}"),
    "beyond 64 bits": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 20)}}"),
    "below zero": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 20)}"),
    "of no type": npy("{'descr': 'x', 'fortran_order': False, 'shape': (40, 20)}"),
    "structured": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (40, 20)}"),
    "nested": npy("(" * 100),
    "code": npy("__import__('os').system('false')"),
    "no header": b"\x93NUMPY",
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04\x95" + bytes(100),
    "nothing": b"",
}
JSON: dict[str, str] = {
    "NaN": '{"ids": ["a"], "metadata": [{"x": NaN}]}',
    "Infinity": '{"ids": ["a"], "metadata": [{"x": -Infinity}]}',
    "deep": "[" * 100_000,
    "long number": '{"ids": [' + "9" * 5000 + "]}",
    "no UTF-8": '{"ids": ["\udcff"]}',
    "half of a pair": '{"ids": ["\\ud800"]}',
    "metadata a number": '{"ids": ["a"], "metadata": [5]}',
    "no ids": '{"metadata": []}',
    "ids of numbers": '{"ids": [1]}',
    "an id of nothing": '{"ids": [""]}',
    "model a number": '{"ids": ["a"], "bareclip": 5}',
    "model no JSON": '{"ids": ["a"], "bareclip": "{"}',
    "model unknown": '{"ids": ["a"], "bareclip": "{\\"model\\": \\"x\\"}"}',
}


@needs_posix
@pytest.mark.parametrize("name", [*NPY, *JSON, "pipe.npy", "pipe.json", "device", "folder"])
def test_odd_files_beside_each_other(index: bareclip.Index, tmp_path: Path, name: str) -> None:
    index.add(["kept"], np.ones((1, WIDTH)))
    path = write(tmp_path, ids=["a"], rows=ROWS[:1])
    if name in NPY:
        path.write_bytes(NPY[name])
    elif name in JSON:
        path.with_suffix(".json").write_text(JSON[name], errors="surrogateescape")
    else:
        place = path.with_suffix(".json") if name == "pipe.json" else path
        place.unlink()
        if name == "device":
            place.symlink_to("/dev/zero")
        elif name == "folder":
            place.mkdir()
        else:
            os.mkfifo(place)
    assert not outcome(index, path)


def long_list() -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    row = pa.array(np.zeros(30_000_000, np.float32))
    return {"id": ["a"], "vector": pa.ListArray.from_arrays([0, len(row)], row)}


def long_lists() -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    row = pa.array(np.zeros(40_000_000, np.float32))
    starts = np.linspace(0, len(row), 2001).astype(int)
    ids = [f"n{i}" for i in range(2000)]
    return {"id": ids, "vector": pa.ListArray.from_arrays(starts, row)}


def repeated(column: str, length: int) -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    count = 4000
    once = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["x" * length])
    columns = {"id": [f"n{i}" for i in range(count)], "vector": [[1.0] * WIDTH] * count}
    return columns | {column: once}


BOMBS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "one list of millions": (long_list, "1 vectors have 30,000,000 numbers; each must have 20"),
    "lists of thousands": (long_lists, "2,000 vectors have 40,000,000 numbers"),
    "a long id, often": (
        lambda: repeated("id", 1_100_000),
        "256 texts have 281,600,000 bytes; at most",
    ),
    "long metadata": (lambda: repeated("metadata", 1_100_000), "256 texts have 281,600,000 bytes"),
    "an id below that": (lambda: repeated("id", 900_000), "is there twice"),
    "metadata below that": (lambda: repeated("metadata", 900_000), "Expecting value"),
}

_IMPORT = """
import resource, sys
import bareclip, bareclip.index, numpy as np, pyarrow.parquet, pyarrow.compute
index = bareclip.Index.open(sys.argv[1], bareclip.load(sys.argv[2]))
index.add(["kept"], np.ones((1, 20)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    index.import_from(sys.argv[3])
except bareclip.BareclipError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in kilobytes")
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_do_not_take_gigabytes(
    bundles: dict[str, Path], tmp_path: Path, name: str
) -> None:
    columns, message = BOMBS[name]
    path = write_parquet(tmp_path, columns(), compression="zstd", dictionary_pagesize_limit=1 << 22)
    assert path.stat().st_size < 400_000
    command = [sys.executable, "-c", _IMPORT, tmp_path / "i.db", bundles["tiny"], path]
    told = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    said, grown = told.stdout.splitlines()
    assert re.search(message, said)
    assert int(grown) < 500_000  # kilobytes


def test_row_groups_have_a_limit(
    index: bareclip.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(
        tmp_path, {"id": [f"{'x' * 500}{i}" for i in range(9)], "vector": [*ROWS[:9]]}
    )
    monkeypatch.setattr(exchange, "_LARGEST_GROUP", 4000)
    with pytest.raises(StoreError, match="id of a row group .*; write smaller row groups"):
        index.import_from(path)
    monkeypatch.setattr(exchange, "_LARGEST_GROUP", 8000)
    assert index.import_from(path) == 9


def test_long_texts_come_back(index: bareclip.Index, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    index.add(IDS, ROWS, [{"x": "y" * 2_000_000}, *[None] * (COUNT - 1)])
    for name in ("v.parquet", "v.npy"):
        index.export_to(tmp_path / name)
        with bareclip.Index.open(tmp_path / f"{name}.db", index._clip) as other:
            assert other.import_from(tmp_path / name) == COUNT
            assert other.search(ROWS[0], k=1) == index.search(ROWS[0], k=1)


def test_where_an_export_cannot_be_written(index: bareclip.Index, tmp_path: Path) -> None:
    index.add(IDS, ROWS)
    for name in ("v.npy", "v.parquet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
        with pytest.raises(StoreError, match=r"cannot write .*v\.(npy|parquet): Is a directory"):
            index.export_to(tmp_path / name)
