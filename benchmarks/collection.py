"""What is asked of a whole collection, measured: duplicates, and questions of several parts.

    python -m benchmarks.collection                     # a million vectors, made up; some minutes
    python -m benchmarks.collection --vectors 20000     # and compared with brute force

Vectors lie in a cone, in clusters whose directions decay as photos' do; one in twenty is a near
copy.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bareclip
from bareclip.scoring.near_groups import near_groups
from bareclip.scoring.vectors import normalize

WIDTH = 512
# Above so many, brute force takes too long.
_CHECKED = 20_000
_STEP = 20_000


def collection(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 512) unit rows, a hundred to a cluster."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, count // 100), WIDTH), np.float32)
    centres *= np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    centres[:, 0] = np.sqrt((centres[:, 1:] ** 2).sum(axis=1)).mean()
    rows = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, _STEP):
        some = rows[start : start + _STEP]
        some[:] = centres[rng.integers(0, len(centres), len(some))]
        scale = np.linalg.norm(some, axis=1, keepdims=True) / WIDTH**0.5
        some += 0.6 * scale * rng.standard_normal(some.shape, np.float32)
        copies = len(some) // 20
        noise = 0.15 * scale[:copies] * rng.standard_normal((copies, WIDTH), np.float32)
        some[:copies] = some[copies : 2 * copies] + noise
        some[:] = normalize(some)
    return rows


def duplicates(rows: NDArray[np.float32], threshold: float) -> dict[str, Any]:
    """Groups of near-duplicates: time, memory beside the vectors, and whether all are found."""
    places, rank = np.arange(len(rows)), np.arange(len(rows))
    with _Peak() as peak:
        started, worked = time.perf_counter(), time.process_time()
        groups = list(near_groups([rows], places, threshold, rank))
        seconds, work = time.perf_counter() - started, time.process_time() - worked
    found: dict[str, Any] = {
        "vectors": len(rows),
        "threshold": threshold,
        "seconds": seconds,
        "processor_seconds": work,
        "mb_beside_the_vectors": peak.grown / 1e6,
        "groups": len(groups),
    }
    if len(rows) <= _CHECKED:
        mine = {(group.first, int(other)) for group in groups for other in group.others}
        found["equal_to_brute_force"] = mine == _brute_force(rows, threshold)
    return found


def _brute_force(rows: NDArray[np.float32], threshold: float) -> set[tuple[int, int]]:
    unit = normalize(rows.astype(np.float64))
    free, pairs = np.ones(len(unit), np.bool_), set()
    for first in range(len(unit)):
        if free[first]:
            free[first] = False
            near = np.flatnonzero(free & (unit @ unit[first] >= threshold))
            free[near] = False
            pairs |= {(first, int(other)) for other in near}
    return pairs


def questions(rows: NDArray[np.float32], folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of a question by vector, of one of three parts, and of spread out answers."""
    path = folder / "vectors.db"
    clip = bareclip.load()
    width = clip.bundle.embedding_dim
    with bareclip.Index.open(path, clip) as index:
        names = [str(i) for i in range(len(rows))]
        index.add(names, rows[:, :width])
    with bareclip.Index.open(path) as index:
        one = rows[0, :width]
        mix = bareclip.Mix((one, 1), (bareclip.Like("5"), 0.5), (bareclip.Like("9"), -0.5))
        asked: dict[str, Callable[[], Any]] = {
            "one_vector_ms": lambda: index.search(one),
            "mix_of_three_ms": lambda: index.search(mix),
            "diverse_ms": lambda: index.search(one, diverse=0.3),
            "of_a_date_ms": lambda: index.search(one, after="2024"),
        }
        return {"width": width} | {name: _median_ms(ask, rounds) for name, ask in asked.items()}


def _median_ms(ask: Callable[[], Any], rounds: int) -> float:
    ask()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


class _Peak:
    """How much this process's own memory, no mapped files, grows meanwhile at most."""

    def __enter__(self) -> "_Peak":
        self._before = self._most = _own_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self._most - self._before

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._most = max(self._most, _own_memory())


def _own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=["duplicates", "questions"])
    arguments = parser.parse_args()
    rows = collection(arguments.vectors)
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], Any]] = {
            "duplicates": lambda: duplicates(rows, arguments.threshold),
            "questions": lambda: questions(rows, Path(folder), arguments.rounds),
        }
        found = {name: ask() for name, ask in parts.items() if arguments.only in (None, name)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
