"""What stands before every route: the host's name, other sites, keys, sizes.

Written against ASGI itself, since it sees every request.
"""

import hashlib
import hmac
import ipaddress
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from .problems import Problem

# Open to all, since who restarts a service has no key.
OPEN = frozenset({"/live", "/ready"})
_PAGES = frozenset({"/", "/docs"})


class Gate:
    """Says who may ask."""

    def __init__(self, keys: Iterable[str], names: Iterable[str]) -> None:
        # Of one length, so that comparing says nothing about a key's.
        self._keys = [_digest(key.encode()) for key in keys]
        self._names = {"localhost", *(name.lower() for name in names)}

    def check(self, scope: Any) -> None:
        """Refuses what may not be asked.

        Raises:
            Problem: 403 or 401.
        """
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._known(host):
            raise Problem(
                403, "this server is not called by that name; see --allow-host", code="host"
            )
        self._check_site(scope, headers, host)
        if self._keys and scope["path"] not in OPEN and not self._has_key(headers):
            raise Problem(401, "no valid key; send Authorization: Bearer KEY", code="invalid_key")

    def _known(self, host: str) -> bool:
        """Whether a Host header is of this server.

        A page elsewhere can make its own name mean this machine (DNS rebinding), but then the
        name is still its own: addresses and ``localhost`` cannot be such names.
        """
        if host.startswith("["):
            name, bracket, port = host[1:].partition("]")
            if not bracket or not _is_port(port.removeprefix(":"), missing=not port):
                return False
        else:
            name, colon, port = host.partition(":")
            if not _is_port(port, missing=not colon):
                return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_site(self, scope: Any, headers: dict[bytes, bytes], host: str) -> None:
        """Refuses what a browser sends on behalf of another site's page."""
        site = headers.get(b"sec-fetch-site", b"none")
        follows_link = (
            headers.get(b"sec-fetch-mode") == b"navigate"
            and scope["method"] == "GET"
            and scope["path"] in _PAGES
        )
        foreign = site not in (b"none", b"same-origin") and not follows_link
        origin = headers.get(b"origin")
        if origin is not None and not foreign:
            foreign = origin.decode("latin-1").lower().partition("://")[2] != host
        if foreign:
            raise Problem(403, "requests of other sites' pages are refused", code="cross_site")

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        given = given.strip()
        if scheme.lower() == b"basic":  # a browser's form, whose password is the key
            try:
                given = b64decode(given, validate=True).partition(b":")[2]
            except ValueError:
                given = b""
        elif scheme.lower() != b"bearer":
            given = b""
        digest = _digest(given)
        # All of them, whichever fits.
        fits = [hmac.compare_digest(digest, key) for key in self._keys]
        return any(fits)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _is_port(port: str, *, missing: bool) -> bool:
    return missing or (port.isascii() and port.isdigit())
