"""What is derived and damaged is made again: it neither crashes nor answers wrongly."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip.scoring.vectors import normalize

# More of them, as 2000, are tried now and then.
MUTATIONS = int(os.environ.get("BARECLIP_FUZZ", "60"))
COUNT, WIDTH = 300, 20
ROWS = normalize(np.random.default_rng(3).standard_normal((COUNT, WIDTH))).astype(np.float32)
QUERIES = ROWS[::15]

# Asks each index whose path it is sent, and says whether the answer was right.
_ASK = """
import sys
import numpy as np
import bareclip
from tests.runtime.index.test_derived import QUERIES, are_right
for line in sys.stdin:
    with bareclip.Index.open(line.rstrip("\\n")) as index:
        hits = index.search_many(QUERIES, k=1, approximate=True)
    print("right" if are_right(hits) else "wrong", flush=True)
"""


@pytest.fixture
def filled(clip: bareclip.Clip, tmp_path: Path) -> Path:
    """An index whose derived files were made."""
    db = tmp_path / "v.db"
    with bareclip.Index.open(db, clip) as index:
        index.add(map(str, range(COUNT)), ROWS)
        index.search(ROWS[0], k=1)
    return db


def exact(db: Path) -> list[list[tuple[str, float]]]:
    with bareclip.Index.open(db) as index:
        found = index.search_many(QUERIES, k=4)
    return [[(hit.item, hit.similarity) for hit in hits] for hits in found]


def are_right(hits: list[list[bareclip.IndexHit]]) -> bool:
    """Whether each vector found itself, nearly: a small graph, made in threads, misses some."""
    found = [hit[0].item for hit in hits]
    wanted = [*map(str, range(0, COUNT, 15))]
    return sum(a == b for a, b in zip(found, wanted, strict=True)) > len(wanted) * 0.7


def mutant(data: bytes, rng: random.Random) -> bytes:
    """One of the ways in which disks, copies and people damage files."""
    changed = bytearray(data)
    at, length = rng.randrange(len(data)), rng.choice((1, 8, 80, 4096))
    end = min(len(data), at + length)
    match rng.randrange(6):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            changed[at:end] = rng.randbytes(end - at)
        case 2:
            changed[at:end] = bytes(end - at)
        case 3:  # rows, or parts of them, change places
            other = rng.randrange(0, len(data) - (end - at) + 1)
            changed[at:end], changed[other : other + end - at] = (
                data[other : other + end - at],
                data[at:end],
            )
        case 4:
            del changed[at:]
        case 5:
            changed[at:at] = rng.randbytes(length)
    return bytes(changed)


def test_mutated_vectors(filled: Path) -> None:
    path = filled.with_name("v.db.vectors")
    whole, wanted = path.read_bytes(), exact(filled)
    for seed in range(MUTATIONS):
        path.write_bytes(mutant(whole, random.Random(seed)))
        assert exact(filled) == wanted, seed
        # Made again, unless what was changed says nothing: the header is filled up with zeros.
        assert path.read_bytes()[4096:] == whole[4096:], seed


def swapped(words: NDArray[np.uint64]) -> None:
    words[[3, 9]] = words[[9, 3]]


def moved(words: NDArray[np.uint64]) -> None:
    words[:, [0, 4]] = words[:, [4, 0]]


def evened_out(words: NDArray[np.uint64]) -> None:
    words[5, 2] += np.uint64(7)
    words[5, 3] -= np.uint64(7)


def evened_out_below(words: NDArray[np.uint64]) -> None:
    words[5, 2] += np.uint64(7)
    words[6, 2] -= np.uint64(7)


@pytest.mark.parametrize("damage", [swapped, moved, evened_out, evened_out_below])
def test_what_sums_to_the_same_is_noticed(
    filled: Path, damage: Callable[[NDArray[np.uint64]], None]
) -> None:
    path = filled.with_name("v.db.vectors")
    whole = path.read_bytes()
    data = bytearray(whole)
    end = 4096 + 4 * COUNT * WIDTH
    damage(np.frombuffer(data, np.uint8)[4096:end].view(np.uint64).reshape(COUNT, WIDTH // 2))
    assert data != whole
    path.write_bytes(data)
    exact(filled)
    assert path.read_bytes() == whole


def test_a_file_that_another_puts_there_is_checked_again(filled: Path) -> None:
    wanted = exact(filled)
    path = filled.with_name("v.db.vectors")
    with bareclip.Index.open(filled) as index:
        index.search(ROWS[0], k=1)
        data = bytearray(path.read_bytes())
        data[5000:5100] = bytes(100)
        path.write_bytes(data)
        assert exact(filled) == wanted


def test_mutated_graphs(filled: Path) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    with bareclip.Index.open(filled) as index:
        index.search(ROWS[0], k=1, approximate=True)
    [path] = filled.parent.glob("*.hnsw")
    whole = path.read_bytes()
    root = Path(__file__).parents[3]
    places = [str(root), str(root / "runtime"), str(root / "export")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    # usearch would end the process: it is another one.
    with subprocess.Popen(
        [sys.executable, "-c", _ASK],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seed in range(MUTATIONS):
            path.write_bytes(mutant(whole, random.Random(seed)))
            print(filled, file=process.stdin, flush=True)
            assert process.stdout.readline() == "right\n", seed
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def made_by_another(filled: Path, patch: pytest.MonkeyPatch, cache: Path) -> bytes:
    """The graph of another user, who has a cache of their own, beside the index."""
    with patch.context() as theirs:
        theirs.setenv("BARECLIP_CACHE", str(cache))
        with bareclip.Index.open(filled) as index:
            index.search(ROWS[0], k=1, approximate=True)
    [path] = filled.parent.glob("*.hnsw")
    return path.read_bytes()


def test_anothers_graph_is_not_shown_to_usearch(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    from bareclip.index import hnsw

    theirs = made_by_another(filled, monkeypatch, tmp_path / "theirs")
    [path] = filled.parent.glob("*.hnsw")
    shown: list[bytes] = []
    inner = hnsw._empty

    class Watched:
        def __init__(self, index: object) -> None:
            self._index = index

        def __getattr__(self, name: str) -> object:
            if name in ("view", "load"):
                shown.append(path.read_bytes())
            return getattr(self._index, name)

    monkeypatch.setattr(hnsw, "_empty", lambda width: Watched(inner(width)))
    for _ in range(2):
        with bareclip.Index.open(filled) as index:
            hits = index.search_many(QUERIES, k=1, approximate=True)
            assert are_right(hits)
    assert len(shown) == 1  # the second time, our own
    assert shown != [theirs]


def test_a_graph_of_another_state_is_not_believed_by_its_name(
    filled: Path, clip: bareclip.Clip
) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    with bareclip.Index.open(filled, clip) as index:
        index.search(ROWS[0], k=1, approximate=True)
        [old] = filled.parent.glob("*.hnsw")
        data = old.read_bytes()
        index.add(map(str, range(COUNT)), -ROWS)  # the same names, under other ids
        index.search(ROWS[0], k=1, approximate=True)
    [new] = filled.parent.glob("*.hnsw")
    assert new != old
    new.write_bytes(data)
    with bareclip.Index.open(filled) as index:
        hits = index.search_many(-QUERIES, k=1, approximate=True)
    assert are_right(hits)


@pytest.mark.parametrize("cache", ["off", "file", "readable", "short"])
def test_without_a_key_of_ones_own_a_graph_is_made_in_memory(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    place = tmp_path / "cache"
    if cache == "file":
        place.touch()
    elif cache in ("readable", "short"):
        place.mkdir()
        (place / "index.key").write_bytes(b"x" * (32 if cache == "readable" else 7))
        (place / "index.key").chmod(0o644 if cache == "readable" else 0o600)
    monkeypatch.setenv("BARECLIP_CACHE", "off" if cache == "off" else str(place))
    with bareclip.Index.open(filled) as index:
        hits = index.search_many(QUERIES, k=1, approximate=True)
        assert are_right(hits)
    assert [*filled.parent.glob("*.hnsw")] == []


def test_the_key_is_the_users_alone(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    made_by_another(filled, monkeypatch, tmp_path / "new")
    key = tmp_path / "new" / "index.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [*key.parent.iterdir()] == [key]
    assert key.parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(key.parent)
