"""A service under load: a tenth of what benchmarks/serve.py measures, without its times."""

import asyncio
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from benchmarks import serve as benchmark
from benchmarks.serve import Bench
from benchmarks.serve_load import Client, closed, request
from PIL import Image

from .running import PICTURES, Running
from .test_metrics import samples


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    found = Bench(None, "fp32", benchmark.TENTH)
    yield found
    found.library.close()


@pytest.mark.parametrize("part", ["exactness", "hostile", "terminations"])
def test_rows_that_depend_on_no_clock(bench: Bench, part: str) -> None:
    for row in benchmark.PARTS[part](bench):
        assert row.holds, row


def test_int8_vectors_under_load_are_those_alone(precise: Path) -> None:
    bench = Bench(precise, "int8", benchmark.TENTH)
    [row] = benchmark.exactness(bench)
    assert row.holds, row
    bench.library.close()


def test_memory(bench: Bench) -> None:
    for row in benchmark.memory(bench):
        assert row.holds, row


def test_overload_is_refused_in_words(bench: Bench) -> None:
    [row] = benchmark.overload(bench)
    assert "statuses [200, 429]" in row.found


@pytest.mark.parametrize("part", ["overhead", "throughput", "texts", "random", "flood", "start"])
def test_the_other_rows_are_measured(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes = benchmark.Sizes(0.5, 2, 1, 10, 100, 10, 10, 1)
    bench = Bench(None, "fp32", sizes)
    rows = benchmark.PARTS[part](bench)
    assert all(row.found for row in rows)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\noutdated\n<!-- end -->\nafter\n")
    benchmark.page(rows, benchmark.machine(), page)
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "outdated" not in text
    assert all(row.name in text for row in rows)
    bench.library.close()


def large_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (500, 600, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((4000, 3000)).save(file, "JPEG")
    return file.getvalue()


def test_what_clients_have_given_up_is_not_computed(service: Running) -> None:
    """Behind pictures that take long to decode, so that all have hung up when their turn comes."""
    large = request("/v1/embeddings", large_jpeg(), "image/jpeg")
    small = request("/v1/embeddings", (PICTURES / "cat.png").read_bytes(), "image/png")

    async def run() -> list[int]:
        first = [Client(service.port) for _ in range(8)]
        answers = [asyncio.ensure_future(client.ask(large)) for client in first]
        await asyncio.sleep(0.1)
        gone = [Client(service.port) for _ in range(100)]
        asked = [asyncio.ensure_future(client.ask(small)) for client in gone]
        await asyncio.sleep(0.05)
        for client in gone:
            client.close()
        found = [answer.status for answer in await asyncio.gather(*answers)]
        await asyncio.gather(*asked)
        for client in first:
            client.close()
        return found

    said = list(service.said)
    with httpx.Client(base_url=service.url) as client:
        before = samples(client)
        assert asyncio.run(run()) == [200] * 8
        while any(samples(client)["bareclip_queue_items", (s,)] for s in ("decode", "vision")):
            time.sleep(0.01)
        after = samples(client)
    name = "bareclip_batch_size_sum", ("vision",)
    computed = after[name] - before.get(name, 0) - 8
    assert computed <= 8
    # Those that were refused, since much was waiting, are no work left out either.
    key = "bareclip_cancelled_total", ("decode",)
    assert after.get(key, 0) - before.get(key, 0) > 0
    assert service.said == said, "a client that goes is nothing to write down"


def test_workers_share_a_socket_and_one_that_dies_is_begun_again() -> None:
    with Running("--workers", 2, "--threads", 1) as running:
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        workers = [int(pid) for pid in children.read_text().split()]
        assert len(workers) == 2
        time.sleep(5.5)  # one that dies sooner counts as one that cannot begin

        os.kill(workers[0], signal.SIGKILL)
        until = time.monotonic() + 30
        while len(found := children.read_text().split()) != 2 or str(workers[0]) in found:
            assert time.monotonic() < until
            time.sleep(0.05)
        picture = request("/v1/embeddings", (PICTURES / "cat.png").read_bytes(), "image/png")
        load = closed(running.port, [picture], 4, 1.0)
        assert {answer.status for answer in load.answers} == {200}
    assert running.process.returncode == 0
