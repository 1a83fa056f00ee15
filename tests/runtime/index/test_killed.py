"""Killed with SIGKILL at 50 random moments, an index ends as one made in a single run."""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bareclip
from bareclip.encoders import IMAGE_BATCH
from tests.variants import picture

ROOT = Path(__file__).parents[3]
KILLS = 50
PHOTOS = 240


class Nursery:
    """The process that forks the children; see killing.py."""

    def __init__(self, bundle: Path, folder: Path, db: Path) -> None:
        command = [sys.executable, "-m", "tests.runtime.index.killing", bundle, folder, db]
        path = os.pathsep.join([str(ROOT), str(ROOT / "runtime"), str(ROOT / "export")])
        self._process = subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, reports: int = -1, share: float = 0) -> tuple[int, int]:
        """Exit code, negative for a signal, and how many reports there were.

        Args:
            reports: After how many the child is killed; -1 waits for its end.
            share: Of a step, that it lives on after them.
        """
        assert self._process.stdin
        assert self._process.stdout
        print(reports, share, file=self._process.stdin, flush=True)
        code, count = self._process.stdout.readline().split()
        return int(code), int(count)

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def contents(db: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(db)) as connection:
        rows = connection.execute(
            "SELECT items.*, vector FROM items LEFT JOIN vectors ON item = id ORDER BY id"
        ).fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return rows


def stored(db: Path) -> int:
    if not db.exists():
        return 0
    with contextlib.closing(sqlite3.connect(db)) as connection:
        [count] = connection.execute("SELECT count(*) FROM items").fetchone()
    return int(count)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fifty_kills_cost_nothing(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(PHOTOS):
        name = folder / f"{i:03}.png"
        if i % 12 == 5:
            name.write_bytes(b"\x89PNG\r\n\x1a\n broken")
        else:
            picture(40 + i % 30, 36, seed=i).save(name)
    with Nursery(bundles["tiny"], folder, tmp_path / "clean.db") as nursery:
        code, whole = nursery.run()
        assert (code, stored(tmp_path / "clean.db")) == (0, PHOTOS)

    rng = random.Random(7)
    db = tmp_path / "killed.db"
    progress = [0]
    with Nursery(bundles["tiny"], folder, db) as nursery:
        kills = 0
        while kills < KILLS:
            # Now before anything is there, now well into its work, now near the end.
            code, _ = nursery.run(rng.choice((0, 0, 1, 2, 3, whole // 3, whole - 1)), rng.random())
            kills += code == -9
            progress.append(stored(db))
            if progress[-1] == PHOTOS:
                assert nursery.run()[0] == 0
                check(db, tmp_path / "clean.db")
                for path in tmp_path.glob("killed.db*"):
                    path.unlink()
        assert nursery.run()[0] == 0
    check(db, tmp_path / "clean.db")
    assert len(set(progress)) >= 5
    # Only whole batches are there: of eight photos, and the broken files among them.
    assert all(count % IMAGE_BATCH <= count // 12 + 1 or count == PHOTOS for count in progress)
    with bareclip.Index.open(db, bareclip.load(bundles["tiny"])) as index:
        assert len(index.search("a cat", k=PHOTOS)) == PHOTOS - PHOTOS // 12
        assert index.sync(folder).unchanged == PHOTOS


def check(db: Path, clean: Path) -> None:
    assert contents(db) == contents(clean)
    assert sorted(p.name for p in db.parent.glob(f"{db.name}*")) == [
        db.name, f"{db.name}.lock", f"{db.name}.vectors",
    ]  # fmt: skip
    vectors = [path.with_name(f"{path.name}.vectors").read_bytes() for path in (db, clean)]
    assert vectors[0][4096:] == vectors[1][4096:]
