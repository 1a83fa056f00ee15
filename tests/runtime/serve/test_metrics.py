"""/metrics, read by Prometheus's own parser; /live and /ready."""

import io
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from bareclip.serve.server import bind
from tests.machine import needs_posix

from .running import Running


def samples(client: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_counted(service: Running, client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    picture = {"content": file.getvalue(), "headers": {"Content-Type": "image/png"}}
    before = samples(client)
    for _ in range(3):
        client.post("/v1/embeddings", **picture).raise_for_status()  # type: ignore[arg-type]
    client.post("/v1/embeddings", json={"input": ["a", "b", "c"]}).raise_for_status()
    client.post("/v1/embeddings", json={"input": ["a"] * 2049})
    client.post("/v1/made/up", json={})
    after = samples(client)

    def more(name: str, *labels: str) -> float:
        return after[name, labels] - before.get((name, labels), 0)

    assert more("bareclip_request_seconds_count", "/v1/embeddings", "200") == 4
    assert more("bareclip_request_seconds_count", "/v1/embeddings", "413") == 1
    assert more("bareclip_request_seconds_count", "other", "404") == 1
    assert more("bareclip_decode_seconds_count") == 3
    assert more("bareclip_inference_seconds_count", "vision") == 3
    assert more("bareclip_batch_size_sum", "vision") == 3
    assert more("bareclip_batch_size_sum", "text") == 3
    assert more("bareclip_queue_seconds_count", "vision") == 3
    assert more("bareclip_rejected_total", "too_large") == 1
    assert after["bareclip_queue_items", ("vision",)] == 0


@needs_posix
def test_ready_while_loading_and_while_draining(bundles: dict[str, Path]) -> None:
    running = Running("--bundle", bundles["tiny"], "--drain", 2, wait=False)
    try:
        assert httpx.get(running.url + "/live").status_code == 200
        running.wait_until_ready()
        running.process.terminate()
        answer = httpx.get(running.url + "/ready")
        while answer.json()["status"] == "ready":
            answer = httpx.get(running.url + "/ready")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        # It still answers whoever has not heard of that.
        assert httpx.post(running.url + "/v1/embeddings", json={"input": "a"}).status_code == 200
    finally:
        assert running.stop() == 0


def test_a_bundle_that_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    running = Running("--bundle", tmp_path, wait=False)
    assert running.process.wait(60) == 1
    with pytest.raises(httpx.TransportError):
        httpx.get(running.url + "/live")
    assert "is not a bundle" in "".join(running.said)


@needs_posix
def test_several_workers_count_together(bundles: dict[str, Path]) -> None:
    with Running("--bundle", bundles["tiny"], "--workers", 2, "--threads", 1) as running:
        for _ in range(20):
            answer = httpx.post(running.url + "/v1/embeddings", json={"input": "a"})
            answer.raise_for_status()
        with httpx.Client(base_url=running.url) as client:
            counted = samples(client)
        assert counted["bareclip_request_seconds_count", ("/v1/embeddings", "200")] == 20
    assert running.process.returncode == 0


# A worker whose model is there once a file is.
_SLOW = """
import socket, sys, time
from pathlib import Path
import bareclip
from bareclip.serve.server import serve
from bareclip.serve.service import Service
from bareclip.serve.settings import Settings

def load():
    while not Path(sys.argv[3]).exists():
        time.sleep(0.01)
    return bareclip.load(sys.argv[2], preload=True)

serve(Service(Settings()), load, socket.socket(fileno=int(sys.argv[1])), one_of_several=True)
"""


@needs_posix
def test_a_worker_takes_nothing_before_its_model_is_there(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Else clients would meet 503 after the others said that they are ready."""
    there, later = tmp_path / "there", tmp_path / "later"
    there.touch()
    with bind("127.0.0.1", 0) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1/embeddings"
        first, second = (
            subprocess.Popen(
                [sys.executable, "-c", _SLOW, str(sock.fileno()), bundles["tiny"], needed],
                pass_fds=[sock.fileno()],
            )
            for needed in (there, later)
        )
    try:
        for _ in range(100):
            assert httpx.post(url, json={"input": "a"}, timeout=60).status_code == 200
        first.terminate()
        assert first.wait(60) == 0
        later.touch()
        assert httpx.post(url, json={"input": "a"}, timeout=60).status_code == 200
    finally:
        for process in (first, second):
            process.terminate()
            process.wait(60)
