"""A run that lies on S3 as a whole, through the real protocol: moto's server on loopback.

Environment: bareclip[cpu,test-runtime] and moto[server].
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bareclip
from tests.runtime.shards import making
from tests.shards.failing_store import FailingStore

pytest.importorskip("moto", reason="needs moto[server]")
fs = pytest.importorskip("pyarrow.fs")
pq = pytest.importorskip("pyarrow.parquet")

from bareclip import shards  # noqa: E402
from bareclip.shards import places  # noqa: E402
from bareclip.shards.places import Place  # noqa: E402


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen: int = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(chosen)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(600):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", chosen)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.1)
        yield chosen
        server.kill()


@pytest.fixture
def store(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An empty bucket, and credentials in the environment as users have them."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    use(port, monkeypatch)
    raw = fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    raw.create_dir("bucket")
    yield port
    raw.delete_dir("bucket")


def use(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    places._remote.cache_clear()


def upload(folder: Path, to: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            Place.at(f"{to}/{path.relative_to(folder).as_posix()}").write(path.read_bytes())


@pytest.fixture
def sources(store: int, mixed: Path, tmp_path: Path) -> list[str]:
    upload(mixed, "s3://bucket/train")
    upload(making.write_folder(tmp_path / "photos", 7), "s3://bucket/photos")
    return ["s3://bucket/train/*.tar", "s3://bucket/photos"]


def local_rows(mixed: Path, tmp_path: Path, clip: bareclip.Clip) -> list[tuple[object, ...]]:
    plan = shards.plan([mixed, tmp_path / "photos"], tmp_path / "LOCAL", rows=4)
    assert all(isinstance(event, shards.Finished) for event in shards.run(plan, clip))
    return rows(plan)


def rows(plan: shards.Plan) -> list[tuple[object, ...]]:
    """What does not depend on where it lies, sorted: addresses sort otherwise than paths."""
    found = []
    for index in range(len(plan)):
        for batch, _ in plan.part(index).batches(["key", "vector", "error", "caption"]):
            found += [
                (Path(row["key"]).name, row["vector"], row["error"], row["caption"])
                for row in batch.to_pylist()
            ]
    return sorted(found, key=lambda row: (row[0], str(row[2])))


def test_plan_run_status_verify_and_search(
    sources: list[str], mixed: Path, tmp_path: Path, clip: bareclip.Clip
) -> None:
    plan = shards.plan(sources, "s3://bucket/run", rows=4)
    tags = [piece.version.tag for shard in plan.shards() for piece in shard.pieces]
    assert [str(tag).split()[0] for tag in tags] == ["etag"] * 2 + ["time"] * 7
    assert shards.unfinished(shards.Plan.read("s3://bucket/run")) == [0, 1, 2, 3]
    assert all(isinstance(event, shards.Finished) for event in shards.run(plan, clip))
    assert rows(plan) == local_rows(mixed, tmp_path, clip)
    status = shards.status("s3://bucket/run")
    assert (status.done, status.rows, status.failed, status.begun) == (4, 18, 3, 0)
    assert shards.verify("s3://bucket/run").problems == ()
    found = shards.search("s3://bucket/run", ["a cat"], clip, k=5)
    wanted = shards.search(tmp_path / "LOCAL", ["a cat"], clip, k=5)
    assert [Path(hit.item).name for hit in found[0]] == [Path(hit.item).name for hit in wanted[0]]
    assert list(shards.run(plan, clip)) == []


def test_a_source_that_has_changed(sources: list[str], clip: bareclip.Clip) -> None:
    plan = shards.plan(sources, "s3://bucket/run")
    [tar] = [shard for shard in plan.shards() if shard.pieces[0].source.endswith("00000.tar")]
    data = bytearray(Place("s3://bucket/train/00000.tar").read())
    data[600] ^= 1  # the same size, and perhaps the same second
    Place("s3://bucket/train/00000.tar").write(bytes(data))
    refused = [event for event in shards.run(plan, clip) if isinstance(event, shards.Refused)]
    assert [event.shard for event in refused] == [tar.index]
    assert "has changed since the plan was made" in refused[0].reason
    assert Place("s3://bucket/run/attempts").files() == []


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_fail_and_are_slow_change_nothing(
    sources: list[str],
    store: int,
    mixed: Path,
    tmp_path: Path,
    clip: bareclip.Clip,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    with FailingStore(store, seed) as failing:
        use(failing.port, monkeypatch)
        plan = shards.plan(sources, "s3://bucket/run", rows=4)
        for _ in range(5):  # run again: goes on
            if not [e for e in shards.run(plan, clip) if isinstance(e, shards.Refused)]:
                break
        assert shards.unfinished(plan) == []
        assert shards.status(plan).rows == 18
        assert shards.verify(plan).problems == ()
    assert min(failing.counts[name] for name in ("slow_down", "refused", "dropped", "delayed")) > 0
    use(store, monkeypatch)
    assert rows(plan) == local_rows(mixed, tmp_path, clip)


def test_the_command_line_on_another_machine(sources: list[str], bundles: dict[str, Path]) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bareclip", *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
        return done.stdout

    bundle = ["--bundle", str(bundles["tiny"])]
    run("shards", "plan", *sources, "-o", "s3://bucket/run")
    run("shards", "run", "s3://bucket/run", *bundle)
    assert json.loads(run("shards", "status", "s3://bucket/run", "--json"))["embedded"] == 15
    run("shards", "verify", "s3://bucket/run")
    hits = json.loads(run("search", "s3://bucket/run", "a cat", "-k", "2", "--json", *bundle))
    assert len(hits[0]["hits"]) == 2


def test_a_bucket_that_is_not_there_is_one_line(store: int) -> None:
    for name in ("s3://none/x", "nosuch://x/y"):
        with pytest.raises(
            bareclip.ShardError, match=r"cannot (use|open) |there is no|holds no run"
        ):
            shards.Plan.read(name)
        with pytest.raises(bareclip.ShardError):
            shards.plan([name], "s3://bucket/run")
