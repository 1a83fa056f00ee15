"""The engine on a Ray of this machine: what it starts, refuses, and leaves behind."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="needs bareclip[ray]")

import ray

import bareclip
from bareclip import BareclipError, BundleError, ShardError, shards
from bareclip.shards import ray_engine
from tests.shards.pictures import jpeg

load = functools.partial(bareclip.load, threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(23):
        (folder / f"{number:02}.jpg").write_bytes(jpeg(number))
    (folder / "23.jpg").write_bytes(b"hello")
    return folder


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    """A Ray that this process is connected to, so that not every test starts one."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_the_command_starts_a_ray_and_ends_it(photos: Path, tmp_path: Path) -> None:
    plan = shards.plan(photos, tmp_path / "OUT", rows=5)
    before = set(Path("/tmp").glob("bareclip-ray-*"))
    said = run(tmp_path / "OUT", "--workers", "2", "--json")
    assert json.loads(said) == {
        "shards": 5, "rows": 24, "embedded": 23, "failed": 1, "before": 0, "refused": [],
    }  # fmt: skip
    here = shards.plan(photos, tmp_path / "here", rows=5)
    assert [event.shard for event in shards.run(here, load())] == list(range(5))
    for index in range(5):
        assert rows_of(plan, index).equals(rows_of(here, index))
    assert set(Path("/tmp").glob("bareclip-ray-*")) == before
    assert "all 5 shards are done" in run(tmp_path / "OUT")


def test_an_interrupt_puts_shards_down_uncounted(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(3000):
        (tmp_path / "many" / f"{number:04}.jpg").write_bytes(jpeg(number % 7))
    plan = shards.plan(tmp_path / "many", tmp_path / "OUT", rows=1500)
    running = subprocess.Popen(
        command(tmp_path / "OUT"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    attempts = tmp_path / "OUT" / "attempts"
    until = time.monotonic() + 120
    while not (attempts.exists() and list(attempts.iterdir())):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=120)
    assert running.returncode != 0, said
    assert list(attempts.iterdir()) == []
    assert len(shards.unfinished(plan)) in {1, 2}


@pytest.mark.usefixtures("connected")
def test_numbers_of_shards_and_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_rows(tmp_path / "in" / f"{number}.parquet", number)
    plan = shards.plan(tmp_path / "in", tmp_path / "OUT")
    write_rows(tmp_path / "in" / "1.parquet", 9)
    events = {event.shard: event for event in ray_engine.run(plan, load, [0, 1])}
    assert isinstance(events[0], shards.Finished)
    assert isinstance(events[1], shards.Refused)
    assert "has changed since the plan was made" in events[1].reason
    assert shards.unfinished(plan) == [1, 2]
    assert list((tmp_path / "OUT" / "attempts").iterdir()) == []


@pytest.mark.usefixtures("connected")
def test_errors_of_workers_are_those_of_one_process(
    photos: Path, tmp_path: Path, bundles: dict[str, Path]
) -> None:
    plan = shards.plan(photos, tmp_path / "OUT", rows=5)
    with pytest.raises(BundleError, match="nowhere"):
        list(ray_engine.run(plan, functools.partial(bareclip.load, tmp_path / "nowhere")))
    list(ray_engine.run(plan, load, [0]))
    with pytest.raises(ShardError, match="plan a new run"):
        list(ray_engine.run(plan, functools.partial(bareclip.load, bundles["tiny"])))
    with pytest.raises(BareclipError, match="no node of this Ray cluster has 1 CPUs and 1 GPUs"):
        list(ray_engine.run(plan, load, gpus=1))
    assert shards.unfinished(plan) == [1, 2, 3, 4]


@pytest.mark.usefixtures("connected")
def test_workers_that_all_die_end_the_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_PATIENCE", 4)
    plan = shards.plan(photos, tmp_path / "OUT", rows=5)
    with pytest.raises(BareclipError, match="4 workers in a row were lost"):
        list(ray_engine.run(plan, functools.partial(os._exit, 3)))


def test_no_cluster_there(photos: Path, tmp_path: Path) -> None:
    shards.plan(photos, tmp_path / "OUT", rows=5)
    found = subprocess.run(
        command(tmp_path / "OUT", "--address", "127.0.0.1:1"), capture_output=True, text=True
    )
    assert found.returncode == 1
    assert "there is no Ray at 127.0.0.1:1" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "options", [["--workers", "2"], ["--cpus-per-worker", "2"], ["--gpus-per-worker", "1"]]
)
def test_options_of_ray_are_for_ray(options: list[str], photos: Path, tmp_path: Path) -> None:
    plan = shards.plan(photos, tmp_path / "OUT")
    words = [sys.executable, "-m", "bareclip", "shards", "run", plan.out, *options]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode == 2
    assert "are for --engine ray" in found.stderr


def command(out: Path, *options: str) -> list[str]:
    words = [sys.executable, "-m", "bareclip", "shards", "run", str(out), "--engine", "ray"]
    return [*words, *options]


def run(out: Path, *options: str) -> str:
    return subprocess.run(
        command(out, *options), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def rows_of(plan: shards.Plan, index: int) -> pa.Table:
    return pq.read_table(plan.out.removeprefix("file://") + f"/parts/part-{index:06}.parquet")


def write_rows(path: Path, seed: int) -> None:
    keys = [f"{path.stem}-{i}" for i in range(4)]
    images = [jpeg(seed * 10 + i) for i in range(4)]
    pq.write_table(pa.table({"key": keys, "image": images}), path)
