"""Label matrices, embedded once and kept, in a bounded number of bytes."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from ..scoring.zero_shot import LabelMatrix


class LabelCache:
    """The matrices asked for last. For one event loop.

    Who asks for one that is being made waits for it; the work ends when nobody waits any more.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, LabelMatrix] = OrderedDict()
        self._making: dict[Hashable, tuple[asyncio.Task[LabelMatrix], list[None]]] = {}
        self._bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[LabelMatrix]]) -> LabelMatrix:
        """The matrix of a key, made if it is not there.

        Raises:
            Exception: What ``make`` raises.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._making:
            self._making[key] = asyncio.ensure_future(self._made(key, make)), []
        task, waiters = self._making[key]
        waiters.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiters.pop()
            if not waiters:
                task.cancel()

    async def _made(self, key: Hashable, make: Callable[[], Awaitable[LabelMatrix]]) -> LabelMatrix:
        try:
            matrix = await make()
        finally:
            del self._making[key]
        self._kept[key] = matrix
        self._bytes += matrix.vectors.nbytes
        while self._bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.vectors.nbytes
        return matrix
