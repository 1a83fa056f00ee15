"""Work on pictures in threads, in order, ahead of whoever uses the results."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ..errors import BareclipError

Item = TypeVar("Item")
Result = TypeVar("Result")


class DecodePool:
    """Threads that decode; they start when they are first needed and stay.

    Threads of a pool per call would each leave an arena of malloc's behind, full of what was
    decoded: 100 to 400 MB were seen. May be used by many threads at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._starting = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._closed = False

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
    ) -> Generator[Result]:
        """Works on items in threads, in order, while the caller uses the results it has.

        Args:
            work: What is done to an item.
            items: Taken from as needed.
            ahead: How many may be taken before the caller asks for them, which bounds memory.

        Yields:
            A result per item; closed early, what has not begun is not done.

        Raises:
            BareclipError: The pool is closed.
        """
        pool = self._started()
        waiting = iter(items)
        taken: deque[Future[Result]] = deque()
        try:
            taken.extend(pool.submit(work, item) for item in islice(waiting, ahead))
            while taken:
                yield taken.popleft().result()
                taken.extend(pool.submit(work, item) for item in islice(waiting, 1))
        finally:
            # Not waited for: nobody needs what is still being worked on.
            for future in taken:
                future.cancel()

    def close(self) -> None:
        """Ends the threads, when what they are at is done."""
        with self._starting:
            self._closed = True
            if self._pool is not None and self._process == os.getpid():
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _started(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._closed:
                raise BareclipError("this Clip was closed; load the bundle again")
            # A forked child has none of its parent's threads.
            if self._pool is None or self._process != os.getpid():
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bareclip-decode")
                self._process = os.getpid()
            return self._pool
