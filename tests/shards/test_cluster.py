"""Runs on a Ray cluster of which anything is killed end as one that nothing has disturbed.

Three schedules of what is killed when; BARECLIP_SCHEDULES=20 for more.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="needs bareclip[ray]")
pytest.importorskip("psutil", reason="finds what to kill")

from bareclip import shards
from tests.shards.chaos import Chaos
from tests.shards.pictures import write_set

SCHEDULES = int(os.environ.get("BARECLIP_SCHEDULES", "3"))


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    found = Chaos(tmp_path_factory.mktemp("chaos"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, bool]]:
    return write_set(tmp_path_factory.mktemp("source") / "in")


@pytest.fixture(scope="module")
def undisturbed(
    chaos: Chaos,
    source: tuple[list[Path], dict[str, bool]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "OUT"
    shards.plan(source[0], out, rows=130)
    chaos.run_undisturbed(out)
    return out


def test_the_undisturbed_run_has_each_picture_or_its_reason(
    undisturbed: Path, source: tuple[list[Path], dict[str, bool]]
) -> None:
    expected = source[1]
    rows = whole(undisturbed).select(["key", "error"]).to_pylist()
    failed = {row["key"]: row["error"] for row in rows if row["error"] is not None}
    assert len(rows) > 2000
    # One key is twice in its tar.
    assert sorted(row["key"] for row in rows) == sorted([*expected, "007000000"])
    assert failed.keys() == {*(key for key in expected if not expected[key]), "007000000"}
    assert failed["killer"] == "it killed its decoder (signal 9)"
    assert "second time" in failed["007000000"]


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_nothing_is_lost_or_done_twice(
    seed: int,
    chaos: Chaos,
    source: tuple[list[Path], dict[str, bool]],
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "OUT"
    plan = shards.plan(source[0], out, rows=130)
    assert len(plan) == 16
    outcome = chaos.run(out, seed, len(plan))
    print(f"schedule {seed}: {outcome}")
    assert whole(out).equals(whole(undisturbed))
    assert told(out) == told(undisturbed)
    assert shards.verify(out).problems == shards.verify(undisturbed).problems
    assert 1 <= outcome.deaths <= 3
    assert outcome.redone == []


def whole(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "parts").iterdir())])


def told(out: Path) -> list[object]:
    """What parts say of themselves, except for where and when they were made."""
    plan = shards.Plan.read(out)
    footers = [plan.part(index).footer() for index in range(len(plan))]
    return [
        dataclasses.replace(one, attempt=0, host="", started=0.0, seconds=0.0) for one in footers
    ]
