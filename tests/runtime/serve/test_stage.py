"""Stages: what is batched, in which order, what is dropped, and what one bad work costs."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from bareclip.serve.forecast import Forecast
from bareclip.serve.stage import Done, Job, LateError, Stage


class Counting:
    """A stage of numbers that are doubled, whose first batch waits to be let go."""

    def __init__(self, fails: Callable[[int], bool] = lambda number: False, most: int = 8) -> None:
        self.batches: list[list[int]] = []
        self.dropped = 0
        self.go = threading.Event()
        self._fails = fails
        self.stage: Stage[int, int] = Stage(
            "doubling", self._run, Job.settle, most=most, watch=self._watch, dropped=self._drop
        )

    def _run(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        assert self.go.wait(30)
        if any(map(self._fails, numbers)):
            raise ValueError("a bad number")
        return [2 * number for number in numbers]

    def _watch(self, name: str, done: Done) -> None:
        assert len(done.waited) == done.items

    def _drop(self, name: str, count: int) -> None:
        self.dropped += count

    def ask(self, numbers: Sequence[int], turn: float = 0.0, seconds: float = 30.0) -> Job:
        job = Job(len(numbers), deadline=time.monotonic() + seconds, turn=turn)
        self.stage.expect(job, len(numbers), len(numbers))
        for place, number in enumerate(numbers):
            self.stage.submit(job, place, number, 1.0)
        return job

    def hold(self) -> Job:
        """Keeps the thread at a batch of one, so that what comes then has to wait."""
        job = self.ask([0], turn=-1.0)
        while not self.batches:
            time.sleep(0.001)
        return job


@pytest.fixture
def counting() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.go.set()
    made.stage.close()


def test_what_waits_is_one_batch_and_nothing_waits_to_be_one(counting: Counting) -> None:
    first = counting.hold()
    later = [counting.ask([number]) for number in range(1, 11)]
    counting.go.set()
    assert first.future.result(30) == [0]
    assert [job.future.result(30) for job in later] == [[2 * n] for n in range(1, 11)]
    assert [len(batch) for batch in counting.batches] == [1, 8, 2]


def test_a_small_request_passes_a_large_one_that_came_just_before(counting: Counting) -> None:
    counting.hold()
    large = counting.ask(range(100, 140), turn=5.0)  # arrived at 0 and takes 5 seconds
    small = counting.ask([1], turn=3.1)  # arrived at 3
    late = counting.ask([2], turn=6.1)  # arrived at 6: it passes nothing
    counting.go.set()
    for job in (large, small, late):
        job.future.result(30)
    order = [number for batch in counting.batches for number in batch]
    assert order.index(1) < order.index(100)
    assert order.index(139) < order.index(2)


def test_abandoned_work_is_not_done(counting: Counting) -> None:
    counting.hold()
    jobs = [counting.ask([number]) for number in range(100)]
    for job in jobs[:99]:
        job.abandon()
    counting.go.set()
    assert jobs[99].future.result(30) == [198]
    assert [batch for batch in counting.batches if batch != [0]] == [[99]]
    assert counting.dropped == 99
    assert counting.stage.wait(1.0) == 0.0  # nothing is expected of them any more


def test_late_work_is_not_done_and_says_so(counting: Counting) -> None:
    counting.hold()
    late, good = counting.ask([1, 2], seconds=0.01), counting.ask([3])
    time.sleep(0.02)
    counting.go.set()
    assert good.future.result(30) == [6]
    assert [type(result) for result in late.future.result(30)] == [LateError, LateError]
    assert counting.batches == [[0], [3]]


@pytest.mark.parametrize("seed", range(20))
def test_a_bad_work_costs_no_other(seed: int) -> None:
    chosen = random.Random(seed)
    bad = set(chosen.sample(range(1, 32), chosen.choice([1, 1, 2, 31])))
    counting = Counting(fails=bad.__contains__, most=32)
    counting.hold()
    jobs = {number: counting.ask([number]) for number in range(1, 32)}
    counting.go.set()
    for number, job in jobs.items():
        [result] = job.future.result(30)
        assert isinstance(result, ValueError) if number in bad else result == 2 * number
    if len(bad) == 1:
        # Halving: two tries a level at most, beside the first.
        assert len(counting.batches) <= 2 + 2 * 5
    assert counting.stage.healthy(30)
    counting.stage.close()


def test_a_result_that_cannot_be_delivered_leaves_the_thread_alive() -> None:
    def refuse(job: Job, place: int, result: int) -> None:
        if result == 1:
            raise RuntimeError("of the service's own making")
        job.settle(place, result)

    stage: Stage[int, int] = Stage("refusing", list, refuse)
    jobs = [Job(1, deadline=time.monotonic() + 30, turn=0) for _ in range(2)]
    for number, job in enumerate(jobs, start=1):
        stage.submit(job, 0, number, 1.0)
    assert isinstance(jobs[0].future.result(30)[0], RuntimeError)
    assert jobs[1].future.result(30) == [2]
    stage.close()


def test_a_stuck_or_ended_thread_is_unhealthy(counting: Counting) -> None:
    assert counting.stage.healthy(0.01)  # however long it has had nothing to do
    counting.hold()
    time.sleep(0.05)
    assert counting.stage.healthy(30)
    assert not counting.stage.healthy(0.01)
    counting.go.set()
    counting.stage.close()
    while any(thread.is_alive() for thread in counting.stage._threads):
        time.sleep(0.001)
    assert not counting.stage.healthy(30)


def test_waiting_is_predicted_from_what_goes_before(counting: Counting) -> None:
    counting.stage.forecast.learn(8, 0.8)
    counting.stage.forecast.learn(1, 0.1)
    counting.hold()
    for turn in range(10):
        counting.ask(range(8), turn=float(turn))
    assert counting.stage.wait(100.0) == pytest.approx(8.0, rel=0.01)
    assert counting.stage.wait(4.5) == pytest.approx(4.0, rel=0.01)
    assert counting.stage.own(16, 16) == pytest.approx(1.6, rel=0.01)


def test_works_that_cost_much_are_no_more_batches() -> None:
    stage: Stage[int, int] = Stage("bytes", list, Job.settle, threads=2)
    for cost in (50_000, 100_000, 150_000):
        stage.forecast.learn(cost, 0.005 + cost * 1e-7)
    job = Job(4, deadline=time.monotonic() + 30, turn=0.0)
    stage.expect(job, 4, 400_000)
    assert stage.wait(0.0) == pytest.approx((4 * 0.005 + 0.04) / 2, rel=0.01)
    stage.close()


@pytest.mark.parametrize("seed", range(10))
def test_a_forecast_finds_the_line_that_least_squares_finds(seed: int) -> None:
    random_ = np.random.default_rng(seed)
    fixed, each = random_.uniform(0.001, 0.1, 2)
    costs = random_.integers(1, 9, 40).astype(float)
    seconds = fixed + each * costs * random_.uniform(0.99, 1.01, 40)
    forecast = Forecast()
    for cost, took in zip(costs, seconds, strict=True):
        forecast.learn(float(cost), float(took))
    weights = np.sqrt(0.93 ** np.arange(39, -1, -1))
    design = np.stack([np.ones(40), costs], axis=1) * weights[:, None]
    [a, b], *_ = np.linalg.lstsq(design, seconds * weights, rcond=None)
    assert forecast.seconds(batches=1, cost=5) == pytest.approx(a + 5 * b, rel=1e-6)


def test_a_forecast_is_moved_by_what_is_usual_not_by_what_is_rare() -> None:
    forecast = Forecast()
    for number in range(200):
        forecast.learn(1, 5.0 if number % 10 == 0 else 0.01)
    assert forecast.seconds(batches=1, cost=1) < 0.05
    for _ in range(40):
        forecast.learn(1, 5.0)  # no longer rare
    assert forecast.seconds(batches=1, cost=1) > 1


def test_a_forecast_of_one_kind_of_batch_is_in_proportion() -> None:
    forecast = Forecast()
    assert forecast.seconds(batches=3, cost=7) == 0
    for _ in range(5):
        forecast.learn(4, 0.2)
    assert forecast.seconds(batches=2, cost=8) == pytest.approx(0.4)
