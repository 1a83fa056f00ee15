"""What a service refuses, and what it never says or does."""

import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bareclip.serve.fetching import Fetcher, is_public
from bareclip.serve.problems import PictureProblem
from tests.machine import needs_proc

from .hostile import bombs, good_pictures, hostile
from .running import Running, post

KEYS = ("a-first-key", "schlüssel-zwei")


@pytest.fixture(scope="module")
def keyed(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("\n".join(KEYS), encoding="utf-8")
    with Running("--bundle", bundles["tiny"], "--api-key-file", keys, "--immich", "tiny") as found:
        yield found


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/metrics", "/ping", "/v1/models", "/v1/thumbnails/a", "/no"],
)
def test_every_other_address_wants_a_key(keyed: Running, path: str) -> None:
    answer = httpx.get(keyed.url + path)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    for key in KEYS:
        sent = {"Authorization": b"Bearer " + key.encode()}
        assert httpx.get(keyed.url + path, headers=sent).status_code != 401


def test_keys_that_are_nearly_right(keyed: Running) -> None:
    def status(value: str) -> int:
        return httpx.get(keyed.url + "/v1/models", headers={"Authorization": value}).status_code

    for wrong in ("", "a-first-ke", "a-first-key2", "A-FIRST-KEY", "a-first-key\tx", "x" * 5000):
        assert status(f"Bearer {wrong}".strip() or "Bearer") == 401
    assert status("a-first-key") == 401
    assert status("Digest a-first-key") == 401
    assert status("Basic !!") == 401
    assert status("bearer a-first-key") == 200
    auth = httpx.BasicAuth("anyone", "a-first-key")
    assert httpx.get(keyed.url + "/", auth=auth).status_code == 200
    asked = httpx.get(keyed.url + "/", headers={"Accept": "text/html"})
    assert asked.headers["www-authenticate"].startswith("Basic")
    assert httpx.get(keyed.url + "/live").status_code == 200
    assert httpx.get(keyed.url + "/ready").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_other_addresses_want_a_key_or_a_flag(bundles: dict[str, Path], host: str) -> None:
    with pytest.raises(RuntimeError, match="--api-key-file"):
        Running("--bundle", bundles["tiny"], "--host", host)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:80", 200),
        ("[::1]", 200), ("[::1]:8000", 200), ("192.168.1.5:8000", 200),
        ("evil.example", 403), ("evil.example:8000", 403), ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403), ("localhost:8000.evil.example", 403), ("", 403),
        ("[::1].evil.example", 403), ("127.0.0.1:80:80", 403), ("localhost@evil.example", 403),
    ],
)  # fmt: skip
def test_names_that_the_server_is_called_by(service: Running, host: str, status: int) -> None:
    answer = service.raw(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_other_sites_pages_are_refused(service: Running, headers: dict[str, str]) -> None:
    answer = httpx.post(service.url + "/v1/embeddings", json={"input": "a"}, headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    preflight = httpx.options(service.url + "/v1/embeddings", headers=headers)
    assert "access-control-allow-origin" not in preflight.headers


def test_a_link_on_another_site_leads_to_the_page(service: Running) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert httpx.get(service.url + "/", headers=headers).status_code == 200
    same = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
    answer = httpx.post(service.url + "/v1/embeddings", json={"input": "a"}, headers=same)
    assert answer.status_code == 200


def test_thirty_one_good_of_thirty_two(service: Running) -> None:
    [_, good, *_] = good_pictures()
    answers: list[tuple[int, int]] = []

    def ask(number: int) -> None:
        data = good[:-80] if number == 7 else good
        headers = {"Content-Type": "image/png"}
        answer = httpx.post(
            service.url + "/v1/embeddings", content=data, headers=headers, timeout=60
        )
        answers.append((number, answer.status_code))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(number, 400 if number == 7 else 200) for number in range(32)]


@needs_proc
@pytest.mark.parametrize("seed", range(4))
def test_damaged_and_hostile_files(service: Running, seed: int) -> None:
    random_, seeds = random.Random(seed), good_pictures()
    leaks = re.compile(r"0x[0-9a-f]{6,}|/work|/tmp|/usr|\.py|Traceback|BytesIO|<_io", re.IGNORECASE)
    idle = service.resident
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for number in range(250):
            data = hostile(random_, seeds)
            headers = {"Content-Type": "image/png"}
            answer = client.post("/v1/embeddings", content=data, headers=headers)
            assert answer.status_code in (200, 400), (number, answer.text)
            if answer.status_code == 400:
                assert not leaks.search(answer.text), answer.text
    assert service.resident < idle + (600 << 20)
    assert service.status() == 200
    assert not leaks.search("".join(service.said[1:]))


@needs_proc
def test_decompression_bombs_take_bounded_memory(service: Running) -> None:
    """A tenth of those that benchmarks/serve.py sends."""
    idle, url = service.resident, service.url + "/v1/embeddings"

    def send(mine: list[bytes]) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as client:
            for data in mine:
                headers = {"Content-Type": "image/png"}
                answer = client.post(url, content=data, headers=headers)
                assert answer.status_code in (200, 400, 429), answer.text

    threads = [threading.Thread(target=send, args=(bombs() * 3,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.peak() < idle + (600 << 20)
    # What decoding takes was learned from bombs, and is soon learned from others.
    headers = {"Content-Type": "image/png"}
    until = time.monotonic() + 10
    for _ in range(10):
        while httpx.post(url, content=good_pictures()[1], headers=headers).status_code == 429:
            assert time.monotonic() < until


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /v1/thumbnails/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/thumbnails/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        post("/v1/embeddings", b"\xff\xfe{}"),
        post("/v1/embeddings", b'{"input": "\\ud800"}'),
        post("/v1/embeddings", b"[" * 100_000),
        post("/v1/embeddings", b'{"input": NaN}'),
        post("/v1/embeddings", b'{"input": "a", "model": {"a": 1}}'),
        post("/v1/embeddings", b'{"input": "a", "dimensions": "x"}'),
        post("/v1/classify", b'{"input": [{"image": "AAAA"}], "labels": [{"a": 1}]}'),
        post("/v1/classify", b'{"input": ["a"], "labels": ["a"], "templates": [["{}"]]}'),
        post("/predict", b"--x--", "multipart/form-data; boundary=x"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 400_000 + b"\r\n\r\n",
    ],
)
def test_odd_requests_are_no_fault_of_the_servers(service: Running, request_: bytes) -> None:
    answer = service.raw(request_, seconds=2)
    assert re.match(rb"HTTP/1.1 4\d\d", answer) or answer == b"", answer[:200]
    assert service.status() == 200


FORBIDDEN = [
    "0.0.0.0", "127.0.0.1", "127.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fc00::1",
    "fd00:ec2::254", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001::1", "100::1", "fec0::1",
    "0x7f.1", "2130706433", "017700000001",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_forbidden_addresses_are_not_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an address is written, and also where an allowed name means it."""
    opened: list[Any] = []

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            opened.append(address)
            raise OSError("not in a test")

    monkeypatch.setattr(socket, "socket", Watched)
    bracketed = f"[{address}]" if ":" in address else address
    for url in (f"http://{bracketed}/a.png", f"https://good.example@{bracketed}/a.png"):
        with pytest.raises(PictureProblem):
            Fetcher(["good.example"]).fetch(url)
    # Its own name allowed, which an operator may have done by mistake.
    with pytest.raises(PictureProblem):
        Fetcher([address, bracketed]).fetch(f"http://{bracketed}/a.png")
    resolved = socket.AF_INET6 if ":" in address else socket.AF_INET

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        number = address if ":" in address else socket.inet_ntoa(socket.inet_aton(address))
        return [(resolved, socket.SOCK_STREAM, 6, "", (number, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(PictureProblem):
        Fetcher(["good.example"]).fetch("http://good.example/a.png")
    assert opened == []


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(address)


class Host(BaseHTTPRequestHandler):
    """A host of pictures, good and bad."""

    def do_GET(self) -> None:
        good = good_pictures()[1]
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/good.png":
            self.send_response(200)
            self.send_header("Content-Length", str(len(good)))
            self.end_headers()
            self.wfile.write(good)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                pass
        elif self.path == "/packed":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
        else:
            self.send_response(404)
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetching_from_a_named_host(host: str) -> None:
    fetcher = Fetcher([host], allowed=lambda address: address == "127.0.0.1")
    assert fetcher.fetch(f"http://{host}/good.png") == good_pictures()[1]
    assert fetcher.fetch(f"http://{host}/to//good.png") == good_pictures()[1]
    for path in (
        "endless", "packed", "missing", "to/http://evil.example/a.png", "to/file:///etc/passwd",
        "to/http://localhost/a.png", "to/" + "/to/" * 4 + "/good.png", "to/http://[::1/",
    ):  # fmt: skip
        with pytest.raises(PictureProblem):
            fetcher.fetch(f"http://{host}/{path}")
    for url in (
        f"http://user@{host}/good.png", f"ftp://{host}/good.png", "http://127.0.0.1/good.png",
        f"http://{host}\\@evil.example/", "http:///good.png", "http://evil.example/",
    ):  # fmt: skip
        with pytest.raises(PictureProblem):
            fetcher.fetch(url)
    with pytest.raises(PictureProblem, match="not fetched"):
        Fetcher([host]).fetch(f"http://{host}/good.png")


def test_a_service_fetches_from_named_hosts_alone(bundles: dict[str, Path], host: str) -> None:
    with Running("--bundle", bundles["tiny"], "--allow-url-host", host) as running:
        for url in (f"http://{host}/good.png", "http://169.254.169.254/", "file:///etc/passwd"):
            answer = httpx.post(
                running.url + "/v1/embeddings", json={"input": [{"image": url}]}, timeout=60
            )
            assert answer.status_code == 400  # the host's name is allowed, its address is not
            assert host not in answer.text
