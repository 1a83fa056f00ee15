"""A service in a process of its own, as it is deployed, and clients that keep no rules."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx


class Running:
    """``bareclip serve`` on a free port.

    Attributes:
        url: Where it listens.
        said: What it wrote so far.
    """

    def __init__(
        self, *arguments: object, environment: Mapping[str, str] | None = None, wait: bool = True
    ) -> None:
        command = [sys.executable, "-m", "bareclip", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})}, text=True
        )
        self.said: list[str] = []
        self._listening = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if not self._listening.wait(60) or "listening on" not in "".join(self.said):
            self.stop()
            raise RuntimeError("".join(self.said))
        [self.url] = re.findall(r"listening on (http://\S+)", "".join(self.said))
        self.port = int(self.url.rsplit(":", 1)[1])
        if wait:
            self.wait_until_ready()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)
                if "listening on" in line:
                    self._listening.set()
        self._listening.set()

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 60
        while self.status() != 200:
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("not ready: " + "".join(self.said))
            time.sleep(0.01)

    def status(self) -> int | None:
        """What ``/ready`` answers; None where nothing does."""
        try:
            return httpx.get(self.url + "/ready", timeout=10).status_code
        except httpx.TransportError:
            return None

    @property
    def resident(self) -> int:
        """Bytes of memory that it has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def peak(self) -> int:
        """Most bytes that it had since it began."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])

    def stop(self) -> int:
        """Ends it as a supervisor would, and says its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._listener.join()
        return code

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def raw(self, request: bytes, seconds: float = 30.0) -> bytes:
        """Sends bytes as they are, and reads until the connection ends or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as sock:
            found = b""
            try:
                sock.sendall(request)
                while chunk := sock.recv(65536):
                    found += chunk
                    if b"\r\n\r\n" in found and _whole(found):
                        break
            except (TimeoutError, ConnectionError):
                pass
            return found


def post(path: str, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """A request's bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _whole(found: bytes) -> bool:
    head, _, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])


PICTURES = Path(__file__).parents[3] / "runtime/bareclip/demo/pictures"
