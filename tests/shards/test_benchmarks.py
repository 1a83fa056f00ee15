"""The benchmarks of shards run, and the simulation counts right where one can count by hand."""

import json
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs bareclip[ray]")

from benchmarks import cluster, shards
from benchmarks.cluster import Fleet, Work, simulate

WORK = Work(shards=40, rows=100, decode=0.04, encode=0.01, fixed=1.0)


@pytest.mark.parametrize(("workers", "cores", "each"), [(1, 1, 5.0), (3, 2, 3.0), (7, 8, 2.0)])
def test_undisturbed_workers_take_shards_in_turns(workers: int, cores: int, each: float) -> None:
    found = simulate(WORK, Fleet(workers, cores, load=10.0))
    assert found.seconds == pytest.approx(10 + math.ceil(40 / workers) * each)
    assert found.busy == pytest.approx(40 * each)
    assert (found.lost, found.wasted) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_lost_is_done_again(seed: int) -> None:
    fleet = Fleet(5, 4, load=2, boot=20, life=12, driver_life=30, driver_boot=5)
    found = simulate(WORK, fleet, seed)
    assert found.lost > 0
    # Each shard is done once; some from the third time on, on one core, in 5 s and not in 2.
    assert 40 * 2 - 1e-6 <= found.busy <= 40 * 5
    assert found.busy + found.wasted <= found.paid
    assert found.seconds > simulate(WORK, Fleet(5, 4, load=2)).seconds


def test_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["shards", "--only", "store", "--shards", "2", "--rows", "20"]
    monkeypatch.setattr(sys, "argv", [*words, "--json", str(tmp_path / "shards.json")])
    shards.main()
    store = json.loads((tmp_path / "shards.json").read_text())["store"]
    assert store["pictures"] == 40
    assert store["used"] < 10e6 < store["with_20_mb"]
    assert len(cluster.paper(pictures=10_000, rows=100, workers=5)) == 3 * len(cluster.PAPER)
