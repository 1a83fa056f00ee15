"""Pictures behind http(s) addresses: fetched within limits, and given up without a trace."""

import base64
import contextlib
import http.client
import queue
import re
import socket
import threading
import urllib.error
import urllib.request
from functools import partial
from typing import IO, Any
from urllib.parse import unquote_to_bytes, urlsplit

from .. import ImageError

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
DOWNLOAD_SECONDS = 30
_CHUNK = 1 << 16
# Characters of what a server says that an error repeats.
_LONGEST_REASON = 200

# Name and password are all before the last @ of what names the host.
_USER = re.compile(r"(?i)^(https?://)([^/?#]*)@")


def is_address(argument: str) -> bool:
    """Whether an argument names a picture on the web."""
    return argument.lower().startswith(("http://", "https://"))


def shown_address(address: str) -> str:
    """An address as it may be shown and kept: without its user's name and password."""
    bare = _USER.sub(r"\1", address)
    # What follows may be a password with a / in it.
    return bare if _is_sound(bare) else re.sub(r"(?is)^(https?://[^/?#:]*).*", r"\1...", bare)


def download(address: str) -> bytes:
    """Fetches a picture, within a limit of time, from connecting to the last byte, and of size.

    A name and a password in the address are sent to its host, and to none that it leads to.

    Raises:
        ImageError: It cannot be had, or is beyond a limit.
    """
    name = shown_address(address)
    if not _is_sound(_USER.sub(r"\1", address)):
        raise ImageError(
            f"cannot download {name}: it names no host and port; in a name or password write "
            "/ ? # @ as %2F %3F %23 %40"
        )
    answer: queue.Queue[bytes | Exception] = queue.Queue()
    transfer = _Transfer()
    # In a thread that can be left behind: a server that sends a byte now and then resets every
    # timeout of a socket, and looking up a name has none.
    threading.Thread(target=_fetch, args=(address, transfer, answer), daemon=True).start()
    try:
        found = answer.get(timeout=DOWNLOAD_SECONDS)
    except queue.Empty:
        transfer.give_up()
        raise ImageError(f"{name} took longer than {DOWNLOAD_SECONDS} seconds") from None
    if isinstance(found, bytes):
        return found
    raise ImageError(f"cannot download {name}: {_reason(found)}") from found


def _is_sound(address: str) -> bool:
    try:
        _ = urlsplit(address).port
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        reason = f"{error.code} {error.reason}"
    else:
        reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "..."


def _fetch(address: str, transfer: "_Transfer", answer: "queue.Queue[bytes | Exception]") -> None:
    data = bytearray()
    try:
        with _opener(transfer).open(_request(address), timeout=DOWNLOAD_SECONDS) as response:
            while chunk := response.read(_CHUNK):
                transfer.check()
                data += chunk
                if len(data) > MAX_DOWNLOAD_BYTES:
                    raise ValueError(f"it is larger than {MAX_DOWNLOAD_BYTES:,} bytes")
        answer.put(bytes(data))
    except Exception as error:  # whatever it is, the waiting thread must hear of it
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response, with its connection
        answer.put(error)


def _request(address: str) -> urllib.request.Request:
    request = urllib.request.Request(_USER.sub(r"\1", address), headers={"User-Agent": "bareclip"})
    if found := _USER.match(address):
        user, _, password = found[2].partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        # Not one that is sent again after a redirect, which may lead to anybody.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    return request


class _Transfer:
    """What a download holds open, which another thread may end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._given_up = False

    def connected(self, connection: socket.socket) -> None:
        """Takes note of the connection; closes it where the download was given up."""
        with self._lock:
            self._socket = connection
            if not self._given_up:
                return
        connection.close()
        self.check()

    def check(self) -> None:
        """Raises where the download was given up."""
        if self._given_up:
            raise TimeoutError("given up")

    def give_up(self) -> None:
        """Ends a connection, and with it the thread that reads from it."""
        with self._lock:
            self._given_up = True
            if self._socket is not None:
                # Not SSLSocket's own, which changes what the other thread is using.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, transfer: _Transfer, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._transfer = transfer

    def connect(self) -> None:
        super().connect()
        self._transfer.connected(self.sock)


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, transfer: _Transfer, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._transfer = transfer

    def connect(self) -> None:
        super().connect()
        self._transfer.connected(self.sock)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, transfer: _Transfer) -> None:
        super().__init__()
        self._transfer = transfer

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Connection, transfer=self._transfer), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, transfer: _Transfer) -> None:
        super().__init__()
        self._transfer = transfer

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_SecureConnection, transfer=self._transfer), request)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # else all of it would be read, and it may be endless
        return super().redirect_request(req, fp, code, msg, headers, _USER.sub(r"\1", newurl))


def _opener(transfer: _Transfer) -> urllib.request.OpenerDirector:
    """An opener that a redirect cannot lead to a local file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(transfer),
        _Https(transfer),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
