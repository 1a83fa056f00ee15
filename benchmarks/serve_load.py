"""Load on a service: clients with little work of their own, so that the service gets the cores.

Requests are bytes that were made before; answers are read as far as HTTP wants it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Answer:
    """What came back.

    Attributes:
        status: 0 where the connection ended before a whole answer was there.
    """

    status: int
    seconds: float
    headers: bytes = b""
    body: bytes = b""
    at: float = 0.0


class Client(asyncio.Protocol):
    """One connection, kept open for as long as the service keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._found = bytearray()
        self._waiting: asyncio.Future[tuple[bytes, bytes]] | None = None

    async def connect(self) -> None:
        """Opens it, unless it is open.

        Raises:
            OSError: Nobody listens.
        """
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)

    async def ask(self, request: bytes) -> Answer:
        """Sends a request and waits for its answer."""
        began = time.perf_counter()
        await self.connect()
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            head, body = await self._waiting
        except ConnectionError:
            return Answer(0, time.perf_counter() - began, at=time.perf_counter())
        ended = time.perf_counter()
        if b"connection: close" in head.lower():
            self.close()
        return Answer(int(head[9:12]), ended - began, head, body, ended)

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._found.clear()

    def data_received(self, data: bytes) -> None:
        self._found += data
        end = self._found.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._found[:end])
        place = head.lower().find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self._found) >= end + 4 + length:
            body = bytes(self._found[end + 4 :])
            self._found.clear()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result((head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError())


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A request's bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Load:
    """What came of a load.

    Attributes:
        seconds: From the first request to the last answer.
        cpu: Seconds of a core that the clients took.
    """

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.good) / self.seconds

    @property
    def share(self) -> float:
        """Cores that the clients took."""
        return self.cpu / self.seconds


def measured(load: Callable[[Load], Awaitable[None]]) -> Load:
    """Runs a load and times it."""
    found = Load()
    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(load(found))  # type: ignore[arg-type]
    found.seconds, found.cpu = time.perf_counter() - began, time.process_time() - cpu
    return found


def closed(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    """So many clients, each of which asks again as soon as it is answered."""

    async def client(found: Load, first: int, until: float) -> None:
        mine, number = Client(port), first
        while time.perf_counter() < until:
            found.answers.append(await mine.ask(requests[number % len(requests)]))
            number += clients
        mine.close()

    async def load(found: Load) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(client(found, first, until) for first in range(clients)))

    return measured(load)


def poisson(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Load:
    """Clients that come at random, so many a second on average, whether others are answered."""

    async def load(found: Load) -> None:
        random_, idle, under_way = random.Random(seed), list[Client](), set[asyncio.Task[None]]()

        async def one(number: int, due: float) -> None:
            client = idle.pop() if idle else Client(port)
            answer = await client.ask(requests[number % len(requests)])
            # From when it was due, not from when this process got round to it.
            answer.seconds = answer.at - due
            found.answers.append(answer)
            idle.append(client)

        due = began = time.perf_counter()
        number = 0
        while due < began + seconds:
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.ensure_future(one(number, max(due, began)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += random_.expovariate(rate)
            number += 1
        if under_way:
            await asyncio.gather(*under_way)
        for client in idle:
            client.close()

    return measured(load)
