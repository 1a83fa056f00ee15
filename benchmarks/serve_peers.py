"""Another server of the same weights, asked in turns with ours.

    python -m benchmarks.serve_peers --bundle clip-b32 --checkpoint clip-vit-base-patch32 \
        --infinity peers/bin/infinity_emb

``--infinity`` is the command of an environment of its own:
``pip install torch==2.13.0 'infinity-emb[server,torch,vision]' aiohttp``.
"""

import argparse
import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.runtime.serve.running import Running

from .serve import TEXTS, machine, sample_photos
from .serve_load import closed, request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--infinity", type=Path, required=True)
    parser.add_argument("--precision", default="fp32,int8")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    # Who is refused here asks again at once, and so takes the cores from the others.
    patient = ("--max-wait", 60, "--deadline", 60)
    servers: dict[str, Running | Infinity] = {
        f"bareclip {precision}": Running(
            "--bundle", arguments.bundle, "--precision", precision, *patient
        )
        for precision in arguments.precision.split(",")
    }
    servers["infinity"] = Infinity(arguments.infinity, arguments.checkpoint)
    try:
        compare(servers, arguments.seconds, arguments.turns)
    finally:
        for server in servers.values():
            server.stop()


class Infinity:
    """infinity on a free port, without its telemetry, on PyTorch."""

    def __init__(self, command: Path, checkpoint: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.name = "clip"
        self._process = subprocess.Popen(
            [command, "v2", "--model-id", checkpoint, "--device", "cpu", "--engine", "torch",
             "--no-bettertransformer", "--no-model-warmup", "--served-model-name", self.name,
             "--host", "127.0.0.1", "--port", str(self.port)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 180
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health").raise_for_status()
                return
            except httpx.HTTPError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def compare(servers: dict[str, Any], seconds: float, turns: int) -> None:
    """Prints a row per load; of each server its best turn."""
    photos = sample_photos()
    asked = {
        name: (
            [_picture(server, photo) for photo in photos],
            [_text(server, text) for text in TEXTS],
        )
        for name, server in servers.items()
    }
    vectors = {name: _first(server.port, *asked[name]) for name, server in servers.items()}
    own = vectors[next(iter(vectors))]
    print(machine())
    print("| | " + " | ".join(servers) + " |\n|---|" + "---|" * len(servers))
    loads: dict[str, Callable[[str], float]] = {
        "photos a second, 32 clients": lambda n: _rate(servers[n], asked[n][0], 32, seconds),
        "one photo alone, ms": lambda n: -_alone(servers[n], asked[n][0], seconds / 2),
        "texts a second, 32 clients": lambda n: _rate(servers[n], asked[n][1], 32, seconds / 2),
        "one text alone, ms": lambda n: -_alone(servers[n], asked[n][1], seconds / 4),
    }
    for what, load in loads.items():
        best = dict.fromkeys(servers, -np.inf)
        for _ in range(turns):
            for name in servers:
                best[name] = max(best[name], load(name))
        print(f"| {what} | " + " | ".join(f"{abs(best[name]):.1f}" for name in servers) + " |")
    for place, what in enumerate(("photo", "text")):
        cells = [f"{float(vectors[name][place] @ own[place]):.6f}" for name in servers]
        print(f"| cosine of a {what}'s vector to the first's | " + " | ".join(cells) + " |")


def _rate(server: Any, asked: list[bytes], clients: int, seconds: float) -> float:
    return closed(server.port, asked, clients, seconds).rate


def _alone(server: Any, asked: list[bytes], seconds: float) -> float:
    times = [one.seconds for one in closed(server.port, asked, 1, seconds).good]
    return 1000 * float(np.median(times))


def _first(port: int, pictures: list[bytes], texts: list[bytes]) -> list[Any]:
    found = []
    for asked in (pictures[0], texts[0]):
        [answer] = closed(port, [asked], 1, 0.001).answers
        vector = np.array(json.loads(answer.body)["data"][0]["embedding"], np.float64)
        found.append(vector / np.linalg.norm(vector))
    return found


def _picture(server: Any, photo: bytes) -> bytes:
    """As each takes it at its best: ours as it is, infinity's as a data URI."""
    if isinstance(server, Running):
        return request("/v1/embeddings", photo, "image/jpeg")
    uri = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    return _embeddings({"model": server.name, "modality": "image", "input": [uri]})


def _text(server: Any, text: str) -> bytes:
    body: dict[str, Any] = {"input": [text]}
    return _embeddings(body if isinstance(server, Running) else {**body, "model": server.name})


def _embeddings(body: dict[str, Any]) -> bytes:
    return request(
        "/embeddings" if "model" in body else "/v1/embeddings", json.dumps(body).encode()
    )


if __name__ == "__main__":
    main()
