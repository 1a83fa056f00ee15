"""Pictures from addresses, where a service is told to fetch from named hosts.

A host's name is resolved once, what it resolves to is checked, and the connection is made to that
very address: a name that means something else a moment later (DNS rebinding) changes nothing. Each
redirect begins anew. No proxy is asked and nothing is decompressed.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from urllib.parse import urljoin, urlsplit

from .problems import PictureProblem

_REDIRECTS = 3
_MOST_BYTES = 20 << 20
_SECONDS = 10.0
_CHUNK = 1 << 16
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_NOT_FETCHED = "it is not fetched here"


def is_public(address: str) -> bool:
    """Whether an IP address is of the open internet, in every way it can be written."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Addresses of version 4 within those of version 6: mapped, 6to4, NAT64.
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.teredo is not None or int(ip) >> 32 == 0 or ip.is_site_local or ip in _LOCAL_NAT64:
            return False
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class Fetcher:
    """Fetches files from hosts that are named; may be used by many threads at once."""

    def __init__(self, hosts: Iterable[str], *, allowed: Callable[[str], bool] = is_public) -> None:
        """Takes the hosts, ``name`` or ``name:port``.

        Args:
            hosts: Without a port those of http and https.
            allowed: Says of an IP address whether it may be connected to.
        """
        self._hosts = {host.lower() for host in hosts}
        self._allowed = allowed

    def fetch(self, url: str) -> bytes:
        """The bytes at an address.

        Raises:
            PictureProblem: They may not be had, or cannot.
        """
        until = time.monotonic() + _SECONDS
        for _ in range(_REDIRECTS + 1):
            try:
                found = self._once(url, until)
                if isinstance(found, bytes):
                    return found
                url = urljoin(url, found)
            except (OSError, http.client.HTTPException, ValueError):
                raise PictureProblem("it could not be fetched", "fetch") from None
        raise PictureProblem(f"it redirects more than {_REDIRECTS} times", "fetch")

    def _once(self, url: str, until: float) -> bytes | str:
        """The bytes, or where they are said to be."""
        parts = urlsplit(url)
        host, secure = (parts.hostname or "").rstrip("."), parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        standard = parts.port is None or port == (443 if secure else 80)
        named = f"{host}:{port}" in self._hosts or (standard and host in self._hosts)
        # A user's name or an odd character before the host is how parsers are made to disagree.
        plain = parts.username is None and parts.password is None and url.isascii()
        if parts.scheme not in ("http", "https") or not named or not plain or "\\" in url:
            raise PictureProblem(f"{_NOT_FETCHED}; see --allow-url-host", "fetch")
        sock = self._connect(host, port, until)
        try:
            if secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            connection = http.client.HTTPConnection(host, port)
            connection.sock = sock
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "bareclip"}
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308):
                return answer.headers.get("Location", "")
            if answer.status != 200 or answer.headers.get("Content-Encoding", "identity") != (
                "identity"
            ):
                raise PictureProblem("its host does not give it", "fetch")
            return self._read(answer, sock, until)
        finally:
            sock.close()

    def _connect(self, host: str, port: int, until: float) -> socket.socket:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        places = [(family, place) for family, _, _, _, place in found]
        # One that is not allowed among them is a sign that none is meant well.
        if not places or not all(self._allowed(str(place[0])) for _, place in places):
            raise PictureProblem(_NOT_FETCHED, "fetch")
        family, place = places[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            sock.connect(place)
        except BaseException:
            sock.close()
            raise
        return sock

    def _read(self, answer: http.client.HTTPResponse, sock: socket.socket, until: float) -> bytes:
        data = bytearray()
        # Not read(): a host that sends a byte now and then would never be late.
        while chunk := answer.read1(_CHUNK):
            data += chunk
            left = until - time.monotonic()
            if len(data) > _MOST_BYTES or left <= 0:
                raise PictureProblem("it is too large, or comes too slowly", "fetch")
            if not answer.isclosed():  # as it is from Python 3.13 on when all has come
                sock.settimeout(left)
        return bytes(data)
