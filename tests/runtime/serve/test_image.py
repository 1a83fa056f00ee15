"""What the Dockerfile runs, without an engine: its command, and what its health is told by."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine import needs_posix

from .running import Running

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"
KEYS = {"BARECLIP_API_KEYS": "secret"}
pytestmark = [
    needs_posix,
    pytest.mark.skipif(not DOCKERFILE.exists(), reason="a source distribution has none"),
]


def words(instruction: str) -> list[str]:
    text = DOCKERFILE.read_text(encoding="utf-8")
    [found] = re.findall(rf"^{instruction} (\[.+\])$", text, re.M)
    return list(json.loads(found))


def arguments(bundle: Path) -> list[str]:
    command, verb, *given = words("ENTRYPOINT")
    assert (command, verb) == ("bareclip", "serve")
    assert f"EXPOSE {given[given.index('--port') + 1]}\n" in DOCKERFILE.read_text(encoding="utf-8")
    return [{"/bundle": str(bundle), "8000": "0"}.get(word, word) for word in given]


def is_healthy(port: int) -> bool:
    """As an engine finds it, also where it has told the container of a proxy."""
    python, option, code = words("HEALTHCHECK CMD")
    assert (python, option) == ("python", "-c")
    command = [sys.executable, option, code.replace("8000", str(port))]
    proxy = os.environ | {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    return subprocess.run(command, env=proxy, stderr=subprocess.DEVNULL).returncode == 0


def test_it_becomes_healthy_and_ends(bundles: dict[str, Path]) -> None:
    with Running(*arguments(bundles["tiny"]), environment=KEYS, wait=False) as running:
        until = time.monotonic() + 60
        while not is_healthy(running.port):
            assert time.monotonic() < until
    assert running.process.returncode == 0
    assert not is_healthy(running.port)


def test_without_a_bundle_it_ends_in_a_line(tmp_path: Path) -> None:
    running = Running(*arguments(tmp_path / "none"), environment=KEYS, wait=False)
    assert running.process.wait(60) == 1
    running.stop()
    [line] = [line for line in running.said if "listening on" not in line]
    assert f"{tmp_path / 'none'} is not a bundle" in line


def test_without_a_key_it_does_not_listen(bundles: dict[str, Path]) -> None:
    with pytest.raises(RuntimeError, match=r"no key is wanted: give .*BARECLIP_API_KEYS"):
        Running(*arguments(bundles["tiny"]), environment={"BARECLIP_API_KEYS": ""}, wait=False)
