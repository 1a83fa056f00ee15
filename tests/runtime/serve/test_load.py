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

from tests.machine import needs_proc

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


@pytest.fixture
def patient() -> Iterator[Running]:
    """One that refuses nobody, however busy the machine is."""
    with Running("--max-wait", 1000, "--deadline", 1000) as running:
        yield running


def test_what_clients_have_given_up_is_not_computed(patient: Running) -> None:
    """Behind pictures that take long to decode, so that all have hung up when their turn comes."""
    large = request("/v1/embeddings", large_jpeg(), "image/jpeg")
    small = request("/v1/embeddings", (PICTURES / "cat.png").read_bytes(), "image/png")
    asked = [large] * 32 + [small] * 100

    async def hang_up() -> None:
        clients = [Client(patient.port) for _ in asked]
        for client in clients:
            await client.connect()
        answers = [
            asyncio.ensure_future(client.ask(one))
            for client, one in zip(clients, asked, strict=True)
        ]
        await asyncio.sleep(0.05)
        for client in clients:
            client.close()
        await asyncio.gather(*answers)

    def of(counts: dict[tuple[str, tuple[str, ...]], float], name: str, *labels: str) -> float:
        return counts.get((name, labels), 0)

    said = list(patient.said)
    with httpx.Client(base_url=patient.url, timeout=60) as client:
        asyncio.run(hang_up())
        time.sleep(2)  # in which it sees all of them go
        gone = samples(client)
        while any(of(samples(client), "bareclip_queue_items", s) for s in ("decode", "vision")):
            time.sleep(0.01)
        time.sleep(1)  # in which what was under way ends
        after = samples(client)
    computed = "bareclip_batch_size_sum", "vision"
    assert of(after, *computed) - of(gone, *computed) <= 8
    left_out = sum(of(after, "bareclip_cancelled_total", s) for s in ("decode", "vision"))
    # Some may have gone before they were read.
    read = sum(
        of(after, "bareclip_request_seconds_count", "/v1/embeddings", status)
        for status in ("200", "499")
    )
    assert of(after, *computed) - 1 + left_out == read  # one warmed it up
    assert patient.said == said, "a client that goes is nothing to write down"


@needs_proc
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
