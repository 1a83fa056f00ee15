"""A stage of work: a queue, and threads that take from it in batches.

Threads take whatever is waiting, at once, up to a full batch: a batch is large because work had
to wait anyway, never made to wait so that it becomes large.

Work goes by its job's turn, ``arrival + its own predicted seconds``. A small request so passes a
large one that came just before it, and a large one is passed for no longer than it takes itself.
"""

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .forecast import Forecast

Work = TypeVar("Work")
Result = TypeVar("Result")

_log = logging.getLogger("bareclip.serve")


class LateError(Exception):
    """A deadline passed before the work was done."""


class Job:
    """What one request wants: so many places, each with a result or an error in the end.

    Attributes:
        future: The results, in order; an exception stands where one is the result.
        deadline: By ``time.monotonic``.
        turn: Earlier ones go first.
        count: Of places.
        tokens: Of its texts, once they are counted.
        abandoned: Nobody waits for it any more.
    """

    def __init__(self, count: int, *, deadline: float, turn: float) -> None:
        self.future: Future[list[Any]] = Future()
        self.deadline = deadline
        self.turn = turn
        self.count = count
        self.tokens = 0
        self.abandoned = False
        self._results: list[Any] = [None] * count
        self._open = set(range(count))
        self._lock = threading.Lock()

    def settle(self, place: int | None, result: object) -> None:
        """Puts a result, or an exception, at its place; the last one ends the job.

        Args:
            place: None is all that have none yet.
            result: What goes there.
        """
        with self._lock:
            places = self._open & {place} if place is not None else set(self._open)
            if not places:
                return
            self._open -= places
            for open_place in places:
                self._results[open_place] = result
            done = not self._open
        if done:
            self._end(self._results)

    def abandon(self) -> None:
        """Gives it up: what has not begun will not be done."""
        self.abandoned = True
        self.future.cancel()

    def _end(self, results: list[Any]) -> None:
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            self.future.set_result(results)


@dataclass(order=True)
class _Item:
    turn: float
    number: int
    job: Job = field(compare=False)
    place: int | None = field(compare=False)
    work: Any = field(compare=False)
    cost: float = field(compare=False)
    since: float = field(compare=False)


@dataclass(frozen=True)
class Done:
    """What a batch took, for who counts."""

    items: int
    seconds: float
    waited: Sequence[float]


class Stage(Generic[Work, Result]):
    """A queue and its threads. Its methods may be called by many threads at once.

    Attributes:
        name: For threads and counts.
        forecast: Of its batches.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Work]], Sequence[Result]],
        deliver: Callable[[Job, Any, Result], None],
        *,
        threads: int = 1,
        most: int = 1,
        most_cost: float = float("inf"),
        watch: Callable[[str, Done], None] = lambda name, done: None,
        dropped: Callable[[str, int], None] = lambda name, count: None,
    ) -> None:
        """Starts the threads.

        Args:
            name: Of the stage.
            run: (works) -> a result for each; what it raises halves the batch, and is the
                result of a work that was alone.
            deliver: (job, place, result), where a result goes.
            threads: How many batches at once.
            most: Works in a batch.
            most_cost: Of a batch; a work that costs more is alone.
            watch: Told of every batch.
            dropped: Told how many works were left out because nobody waits for them.
        """
        self.name = name
        self.forecast = Forecast()
        self._run, self._deliver = run, deliver
        self._most, self._most_cost = most, most_cost
        self._watch, self._dropped = watch, dropped
        self._queue: list[_Item] = []
        # What is expected, also before it is queued: by job, how many works and their cost.
        self._expected: dict[Job, tuple[int, float]] = {}
        self._numbers = itertools.count()
        self._ready = threading.Condition()
        self._closed = False
        self._busy: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"bareclip-{name}-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many works are queued."""
        return len(self._queue)

    def wait(self, turn: float) -> float:
        """Predicted seconds until work of that turn would begin."""
        with self._ready:
            before = [known for job, known in self._expected.items() if job.turn <= turn]
        return self.own(sum(works for works, _ in before), sum(cost for _, cost in before))

    def own(self, works: int, cost: float) -> float:
        """Predicted seconds of so many works, that cost so much together, alone."""
        batches = max(works / self._most, cost / self._most_cost)
        return self.forecast.seconds(batches=batches, cost=cost) / len(self._threads)

    def expect(self, job: Job, works: int, cost: float) -> None:
        """Counts a job's works before it is queued, so that others' waiting is predicted.

        Until its future is done; cancelling it, as ``Job.abandon`` does, is such an end.
        """
        with self._ready:
            self._expected[job] = works, cost
        job.future.add_done_callback(lambda _: self._forget(job))

    def submit(self, job: Job, place: int | None, work: Work, cost: float) -> None:
        """Queues a work, for one of the job's places, or None for all of them."""
        item = _Item(job.turn, next(self._numbers), job, place, work, cost, time.monotonic())
        with self._ready:
            heapq.heappush(self._queue, item)
            self._ready.notify()

    def healthy(self, stuck: float) -> bool:
        """Whether all threads live, and none has been at one batch for ``stuck`` seconds."""
        now = time.monotonic()
        begun = list(self._busy.values())
        return all(thread.is_alive() for thread in self._threads) and all(
            now - since < stuck for since in begun
        )

    def close(self) -> None:
        """Ends the threads once the queue is empty."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _forget(self, job: Job) -> None:
        with self._ready:
            self._expected.pop(job, None)

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            batch = self._take()
            if batch is None:
                return
            if not batch:
                continue
            self._busy[me] = began = time.monotonic()
            try:
                for item, result in self._results(batch):
                    self._pass_on(item, result)
            finally:
                self._busy.pop(me, None)
            seconds = time.monotonic() - began
            self.forecast.learn(sum(item.cost for item in batch), seconds)
            waited = [began - item.since for item in batch]
            self._watch(self.name, Done(len(batch), seconds, waited))

    def _take(self) -> list[_Item] | None:
        """The next batch, empty where nobody waits for what was queued; None at the end."""
        batch: list[_Item] = []
        late: list[_Item] = []
        abandoned, cost = 0, 0.0
        with self._ready:
            while not self._queue and not self._closed:
                self._ready.wait()
            if not self._queue:
                return None
            now = time.monotonic()
            while self._queue and len(batch) < self._most:
                item = self._queue[0]
                if item.job.abandoned:
                    abandoned += 1
                elif item.job.deadline <= now:
                    late.append(item)
                elif batch and cost + item.cost > self._most_cost:
                    break
                else:
                    batch.append(item)
                    cost += item.cost
                heapq.heappop(self._queue)
            for item in batch:
                if item.job in self._expected:
                    works, cost = self._expected[item.job]
                    self._expected[item.job] = works - 1, max(cost - item.cost, 0.0)
        for item in late:
            item.job.settle(item.place, LateError())
        if abandoned:
            self._dropped(self.name, abandoned)
        return batch

    def _results(self, batch: Sequence[_Item]) -> list[tuple[_Item, Any]]:
        """Each with its result; a batch that fails is halved until the culprit is alone."""
        try:
            results = self._run([item.work for item in batch])
            return list(zip(batch, results, strict=True))
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
        middle = len(batch) // 2
        return self._results(batch[:middle]) + self._results(batch[middle:])

    def _pass_on(self, item: _Item, result: Any) -> None:
        if isinstance(result, Exception):
            item.job.settle(item.place, result)
            return
        try:
            self._deliver(item.job, item.place, result)
        except Exception as error:
            # Of the service's own making; the thread has to go on for the others.
            _log.error("stage %s: %s", self.name, type(error).__name__)
            item.job.settle(item.place, error)
