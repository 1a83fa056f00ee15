"""Running a service: its socket, its model, its signals, its workers."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..clip import Clip
from ..errors import BareclipError
from .app import create_app
from .service import Service

_log = logging.getLogger("bareclip.serve")

# After which a request that is not answered is given up, when the service ends.
_CEILING = 30
_BACKLOG = 2048
_M_MMAP_THRESHOLD = -3
# Pillow takes large pictures in blocks of 16 MiB. What is smaller comes and goes with every photo,
# and getting it from the system each time costs page faults.
_LARGE = 8 << 20
_LAST_REQUESTS = 2.0
_HEAD_BYTES, _HEAD_SECONDS = 1 << 16, 30.0


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which ends connections whose headers are too large or come too slowly."""

    _slow: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._slow.cancel()
        # At once: of a thousand that hang up together, the first would else be given up when all
        # thousand have been looked at.
        scope: Any = self.scope or {}
        for job in scope.get("bareclip.jobs", ()):
            job.abandon()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._slow.cancel()
        self._head_begins()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._slow.cancel()
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some of what it sends is there."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self.transport.close()

    def _head_begins(self) -> None:
        self._head, self._in_head = 0, True
        self._slow = self.loop.call_later(_HEAD_SECONDS, self.transport.close)


class _Server(uvicorn.Server):
    """uvicorn's, which goes on taking connections for a while after it is told to end.

    Who watches ``/ready`` sends no more meanwhile, and clients that keep connections open are
    told to close them with the next answer.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; a second signal ends it at once."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._service.settings.drain, self._end)

    def _end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes the connections that are still in the system's queue, and then no more."""
        accepted = [connection for sock in sockets or () for connection in _accepted(sock)]
        for server in self.servers:
            server.close()
        loop, config, state = asyncio.get_running_loop(), self.config, self.server_state
        for connection in accepted:
            await loop.connect_accepted_socket(
                lambda: _Protocol(config, state, self.lifespan.state), connection
            )
        # uvicorn ends at once what has no request yet, but one may be on its way.
        until = loop.time() + _LAST_REQUESTS
        await asyncio.sleep(_LAST_REQUESTS / 10)
        while loop.time() < until and any(
            getattr(one, "cycle", None) is None for one in state.connections
        ):
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def _accepted(sock: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection


def _give_memory_back() -> None:
    """Has the C library return what large pictures took as soon as they are done with.

    glibc raises the size from which it does so by itself to that of the largest block freed, and
    keeps everything smaller for each thread: hundreds of megabytes after a few large pictures.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BareclipError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY where it sees that a socket is TCP's: without it an answer's second
    # packet waits 40 ms for the client to acknowledge the first.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # where it would let a second server take the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BareclipError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port"
        ) from error
    return sock


def serve(
    service: Service,
    load: Callable[[], Clip],
    sock: socket.socket,
    started: Callable[[Service], None] = lambda service: None,
    *,
    one_of_several: bool = False,
) -> None:
    """Answers until SIGTERM or SIGINT, and then what it has accepted.

    Args:
        service: Not started; it answers 503 until its model is there.
        load: Loads the model; called in a thread.
        sock: Listens.
        started: Called when it is ready.
        one_of_several: Whether other processes take connections from the socket as well. This one
            then takes none until its model is there: they would meet 503 after another said that
            it is ready.

    Raises:
        BareclipError: The model cannot be loaded.
    """
    config = uvicorn.Config(
        create_app(service), http=_Protocol, ws="none", lifespan="off", loop="asyncio",
        access_log=False, log_config=None, server_header=False,
        proxy_headers=False, backlog=_BACKLOG,
        timeout_keep_alive=75, timeout_graceful_shutdown=_CEILING,
    )  # fmt: skip
    server = _Server(config, service)
    _give_memory_back()
    failures: list[BaseException] = []

    def start() -> None:
        service.start(load())
        started(service)

    def start_behind() -> None:
        try:
            start()
        except BaseException as error:
            failures.append(error)
            server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        # uvicorn puts this back when all is answered: a second SIGTERM then changes nothing.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        if one_of_several:
            start()
        else:
            threading.Thread(target=start_behind, name="bareclip-load", daemon=True).start()
        asyncio.run(server.serve([sock]))
    except KeyboardInterrupt:
        pass
    finally:
        service.close()
    if failures:
        raise failures[0]


def supervise(command: Sequence[str], workers: int, sock: socket.socket, secret: bytes) -> None:
    """Runs several processes on one socket, until SIGTERM; one that dies is begun again.

    They share prepared weights through the files that they are mapped from.

    Args:
        command: Of a worker, to which ``--socket FD`` is added.
        workers: How many.
        sock: Listens.
        secret: Of ids; see ``Settings``.

    Raises:
        BareclipError: Workers die as soon as they are begun.
    """
    ending = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: ending.set())
    sock.set_inheritable(True)
    with tempfile.TemporaryDirectory(prefix="bareclip-metrics-") as counts:
        environment = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": counts,
            "BARECLIP_SERVE_SECRET": secret.hex(),
        }

        def begin() -> tuple[subprocess.Popen[bytes], float]:
            arguments = [*command, "--socket", str(sock.fileno())]
            process = subprocess.Popen(arguments, env=environment, pass_fds=[sock.fileno()])
            return process, time.monotonic()

        running = [begin() for _ in range(workers)]
        try:
            while not ending.wait(0.2):
                for place, (process, since) in enumerate(running):
                    if process.poll() is None:
                        continue
                    if time.monotonic() - since < 5:
                        raise BareclipError(
                            f"a worker ended with {process.returncode} as soon as it was begun; "
                            "see what it said above, or try without --workers"
                        )
                    _log.warning("a worker ended with %s; another begins", process.returncode)
                    running[place] = begin()
        finally:
            # Else connections would queue at a socket that nobody takes them from.
            sock.close()
            for process, _ in running:
                process.terminate()
            codes = {process.wait() for process, _ in running}
        # One that was only just begun ends by the signal itself; it had taken no connection.
        if codes - {0, -signal.SIGTERM}:
            sys.exit(1)
