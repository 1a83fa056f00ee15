"""Pictures behind addresses, from a server that is hostile where a test is about that."""

import base64
import http.server
import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.cli import download
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

ENDLESS = 1 << 40
_FILE = io.BytesIO()
picture(60, 40).save(_FILE, "PNG")
PICTURE = _FILE.getvalue()
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m"


class _Server(http.server.ThreadingHTTPServer):
    """Notes what it is asked, and which of its answers their reader has hung up on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.hung_up = threading.Event()

    def handle_error(self, *_: Any) -> None:
        self.hung_up.set()


class _Answers(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        headers = self.headers
        self.server.asked.append((self.path, headers["Host"], headers["Authorization"]))
        name, _, rest = self.path[1:].partition("?")
        getattr(self, f"_{name}", self._missing)(rest)

    def _missing(self, _: str) -> None:
        self.send_error(404)

    def _cat(self, _: str) -> None:
        self._begin(200)
        self.wfile.write(PICTURE)

    def _to(self, address: str) -> None:
        self._begin(302, Location=address)

    def _to_slowly(self, address: str) -> None:
        self._begin(302, Location=address)
        self._body(ENDLESS)

    def _endless(self, _: str) -> None:
        self._begin(200)
        self._body(ENDLESS)

    def _silent(self, _: str) -> None:
        self.connection.recv(1)  # until the other side goes
        self.server.hung_up.set()

    def _drip(self, _: str) -> None:
        self._begin(200)
        self._drops(b"x")

    def _headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self._drops(b"X-Header: x\r\n")

    def _large(self, _: str) -> None:
        self._begin(200)
        self._body(16 << 20)
        self._drops(b"x")

    def _reason(self, _: str) -> None:
        self.wfile.write(f"HTTP/1.0 500 {EVIL}{'x' * 5000}\r\n\r\n".encode("latin-1"))

    def _evil(self, _: str) -> None:
        self.wfile.write(f"HTTP/1.0 302 x\r\nLocation: ftp://{EVIL}\r\n\r\n".encode("latin-1"))

    def _begin(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, count: int) -> None:
        for _ in range(0, count, 1 << 16):
            self.wfile.write(bytes(1 << 16))

    def _drops(self, drop: bytes) -> None:
        while True:
            self.wfile.write(drop)
            time.sleep(0.02)

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd
        httpd.shutdown()


@pytest.fixture
def address(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


def test_addresses_are_fetched(address: str, bundle: str, tmp_path: Path) -> None:
    output, local = tmp_path / "both.npz", tmp_path / "cat.png"
    local.write_bytes(PICTURE)
    arguments = [f"{address}/cat", local, f"{address}/none"]
    run("embed", *arguments, "-o", output, "--on-error", "skip", "--bundle", bundle)
    with np.load(output) as archive:
        np.testing.assert_array_equal(archive["vectors"][0], archive["vectors"][1])
        assert archive["names"].tolist() == [f"{address}/cat", str(local)]
    labels = ["--labels", "cat,dog", "--bundle", bundle]
    missing = complaint("classify", f"{address}/none", *labels)
    assert f"cannot download {address}/none: 404 Not Found" in missing
    assert "cannot download" in complaint("classify", "http://127.0.0.1:9/x.png", *labels)


def test_an_error_does_not_wait_for_what_is_still_fetched(
    address: str, bundle: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    message = complaint(
        "embed", "none.png", f"{address}/silent", "-o", tmp_path / "x.npz", "--bundle", bundle,
        "--on-error", "raise",
    )  # fmt: skip
    assert "none.png: it does not exist" in message
    assert time.monotonic() - started < download.DOWNLOAD_SECONDS / 2


def test_a_redirect_leads_to_the_web_alone(address: str) -> None:
    assert download.download(f"{address}/to?{address}/cat") == PICTURE
    assert download.download(f"{address}/to?/cat") == PICTURE
    for elsewhere in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//", "/to?/to?/none"):
        with pytest.raises(bareclip.ImageError, match="cannot download"):
            download.download(f"{address}/to?{elsewhere}")
    with pytest.raises(bareclip.ImageError, match="infinite loop"):
        download.download(f"{address}/to")


def test_downloads_are_limited(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1 << 20)
    with pytest.raises(bareclip.ImageError, match="it is larger than 1,048,576 bytes"):
        download.download(f"{address}/endless")
    # The body of a redirect is nobody's picture, and is not read.
    assert download.download(f"{address}/to_slowly?{address}/cat") == PICTURE


@pytest.mark.parametrize("path", ["silent", "drip", "headers", "large", "to?/drip"])
def test_what_is_given_up_ends_with_its_connection_and_bytes(
    server: _Server, address: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DOWNLOAD_SECONDS", 0.5)
    before = threading.active_count()
    with pytest.raises(bareclip.ImageError, match=r"took longer than 0\.5 seconds"):
        download.download(f"{address}/{path}")
    # The thread had the connection and what had come of it; the server's own thread ends too.
    assert server.hung_up.wait(20)
    _until(lambda: threading.active_count() <= before)


def _until(true: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("me:s3cret", b"me:s3cret"),
        ("me:s3%2Fc%40ret", b"me:s3/c@ret"),
        ("me:s3@cret", b"me:s3@cret"),
        ("s3cret", b"s3cret:"),
        ("s3cret:", b"s3cret:"),
        (":s3cret", b":s3cret"),
    ],
)
def test_a_password_is_for_its_host_and_nobody_else(
    server: _Server,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    sent: bytes,
) -> None:
    looked_up = []
    real = socket.getaddrinfo

    def noted(host: Any, *rest: Any, **named: Any) -> Any:
        looked_up.append(host)
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    with_user = address.replace("//", f"//{user}@")
    elsewhere = address.replace("127.0.0.1", "localhost").replace("//", "//you:theirs@")
    assert download.download(f"{with_user}/to?{elsewhere}/cat") == PICTURE
    assert looked_up == ["127.0.0.1", "localhost"]
    host = address.removeprefix("http://")
    basic = f"Basic {base64.b64encode(sent).decode()}"
    assert server.asked == [
        (f"/to?{elsewhere}/cat", host, basic),
        ("/cat", host.replace("127.0.0.1", "localhost"), None),
    ]
    with pytest.raises(bareclip.ImageError) as caught:
        download.download(f"{with_user}/none")
    assert str(caught.value) == f"cannot download {address}/none: 404 Not Found"
    assert download.shown_address(f"{with_user}/cat") == f"{address}/cat"


def test_no_password_is_shown_or_written(address: str, bundle: str, tmp_path: Path) -> None:
    with_user = address.replace("//", "//me:s3cret@")
    output = tmp_path / "x.npz"
    options = ["--bundle", bundle]
    said = [
        run("embed", f"{with_user}/cat", f"{with_user}/none", "-o", output, *options, code=1),
        run("classify", f"{with_user}/cat", "--labels", "a,b", "--json", *options),
        run("similarity", f"{with_user}/none", "a cat", *options, code=1),
        run("-v", "similarity", f"{with_user}/cat", "a cat", *options),
        # Of another authority, by the standard: the host is "me", and its port is no number.
        run("similarity", "http://me:s3cret/x@127.0.0.1/x.png", "a cat", *options, code=1),
        run("similarity", "http://me:s3cret#@127.0.0.1/x.png", "a cat", *options, code=1),
        run("similarity", "http://[s3cret@127.0.0.1/x.png", "a cat", *options, code=1),
    ]
    for found in said:
        assert "s3cret" not in found.stdout + found.stderr
        assert "Traceback" not in found.stderr
    assert "in a name or password write / ? # @ as %2F %3F %23 %40" in said[4].stderr
    with np.load(output) as archive:
        assert archive["names"].tolist() == [f"{address}/cat"]


@pytest.mark.parametrize("path", ["reason", "evil"])
def test_what_a_server_says_is_shown_short_and_harmless(
    address: str, bundle: str, path: str
) -> None:
    said = complaint("similarity", f"{address}/{path}", "a cat", "--bundle", bundle)
    assert f"cannot download {address}/{path}" in said
    assert said.removesuffix("\n").isprintable()
    assert len(said) < 400
