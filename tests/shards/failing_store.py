"""An HTTP proxy on loopback that fails and delays requests to a store, by a seed.

store = FailingStore(port_of_the_store, seed=3)
with store: ...                        # requests go to store.port
store.counts                           # what was done to them
"""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOWN = b"""<?xml version="1.0"?><Error><Code>SlowDown</Code>
<Message>Please reduce your request rate.</Message></Error>"""

# Share of requests, and what is done to them.
FAULTS = {"slow_down": 0.04, "refused": 0.03, "dropped": 0.03, "cut": 0.04, "delayed": 0.05}


class FailingStore:
    def __init__(self, store: int, seed: int) -> None:
        self._store, self._random = store, random.Random(seed)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._answer(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815, http.server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "FailingStore":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self) -> str:
        with self._lock:
            drawn, found = self._random.random(), "none"
            for name, share in FAULTS.items():
                if 0 <= drawn < share:
                    found = name
                drawn -= share
            self.counts[found] += 1
            return found

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        fault = self._fault()
        body = _body(request)
        if fault == "delayed":
            time.sleep(0.2)
        if fault == "refused":  # nothing has happened
            return _hang_up(request)
        if fault == "slow_down":
            return _send(request, 503, [("Content-Type", "application/xml")], SLOW_DOWN)
        onward = http.client.HTTPConnection("127.0.0.1", self._store, timeout=60)
        onward.request(request.command, request.path, body, dict(request.headers))
        found = onward.getresponse()
        data = found.read()
        onward.close()
        if fault == "dropped":  # it has happened, and nobody says so
            return _hang_up(request)
        half = len(data) // 2 if fault == "cut" and data else None
        _send(request, found.status, found.getheaders(), data, half)


def _body(request: BaseHTTPRequestHandler) -> bytes | None:
    size = request.headers.get("Content-Length")
    if size is not None:
        return request.rfile.read(int(size))
    if request.headers.get("Transfer-Encoding") != "chunked":
        return None
    data = b""
    while size := int(request.rfile.readline(), 16):  # type: ignore[assignment]
        data += request.rfile.read(int(size))
        request.rfile.readline()
    request.rfile.readline()
    del request.headers["Transfer-Encoding"]
    return data


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes,
    cut: int | None = None,
) -> None:
    request.send_response_only(status)
    is_head = request.command == "HEAD"
    for name, value in headers:
        if name.lower() not in ("transfer-encoding", "connection") and (
            is_head or name.lower() != "content-length"
        ):
            request.send_header(name, value)
    if not is_head and status != 204:
        request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    if not is_head:
        request.wfile.write(data if cut is None else data[:cut])
    if cut is not None:
        _hang_up(request)


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.wfile.flush()
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)
