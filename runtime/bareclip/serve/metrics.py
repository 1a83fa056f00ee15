"""Counts and times for Prometheus."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from .stage import Done, Stage

# 1 ms times 2 to the k, to 16 s.
_SECONDS = tuple(0.001 * 2**k for k in range(15))
_SIZES = tuple(2.0**k for k in range(9))


class Metrics:
    """What is counted; a registry of its own, so that several services fit in one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.request = Histogram(
            "bareclip_request_seconds", "From a request's headers to its answer.",
            ["route", "status"], buckets=_SECONDS, **own,
        )  # fmt: skip
        self._queue = Histogram(
            "bareclip_queue_seconds", "How long work waited for a stage.", ["stage"],
            buckets=_SECONDS, **own,
        )  # fmt: skip
        self._decode = Histogram(
            "bareclip_decode_seconds", "Of one picture.", buckets=_SECONDS, **own
        )
        self._inference = Histogram(
            "bareclip_inference_seconds", "Of one batch.", ["tower"], buckets=_SECONDS, **own
        )
        self._batch = Histogram(
            "bareclip_batch_size", "Pictures or texts in a batch.", ["tower"], buckets=_SIZES, **own
        )
        self._waiting = Gauge(
            "bareclip_queue_items", "What waits for a stage now.", ["stage"],
            multiprocess_mode="livesum", **own,
        )  # fmt: skip
        self.rejected = Counter(
            "bareclip_rejected", "Requests that were refused.", ["reason"], **own
        )
        self._cancelled = Counter(
            "bareclip_cancelled", "Work left out because nobody waited for it.", ["stage"], **own
        )
        self._of_stage: dict[str, Callable[[Done], None]] = {}

    def watch(self, name: str, done: Done) -> None:
        """Counts a batch of a stage."""
        if name not in self._of_stage:
            self._of_stage[name] = self._counts(name)
        self._of_stage[name](done)

    def dropped(self, name: str, count: int) -> None:
        """Counts work that a stage left out."""
        self._cancelled.labels(name).inc(count)

    def follow(self, stages: Sequence[Stage[Any, Any]]) -> None:
        """Shows how long the queues are, whenever it is asked."""
        for stage in stages:
            if _several_workers():
                continue  # a function cannot be asked from another process
            self._waiting.labels(stage.name).set_function(partial(getattr, stage, "waiting"))

    def text(self) -> bytes:
        """All of it, as Prometheus reads it; of all workers where there are several."""
        if not _several_workers():
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)

    def _counts(self, name: str) -> Callable[[Done], None]:
        queue = self._queue.labels(name)
        if name in ("decode", "tokenize"):
            seconds, size = (self._decode if name == "decode" else None), None
        else:
            seconds, size = self._inference.labels(name), self._batch.labels(name)

        def count(done: Done) -> None:
            for waited in done.waited:
                queue.observe(waited)
            if seconds is not None:
                seconds.observe(done.seconds)
            if size is not None:
                size.observe(done.items)

        return count


def _several_workers() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ
