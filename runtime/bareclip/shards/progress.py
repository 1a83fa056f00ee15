"""How far a run is, from what lies in its folder: asked on any machine, while it runs or not."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import ShardError
from .attempts import begun
from .engines import finished
from .model import read_model
from .part import Footer
from .plans import Plan

# Footers that are read at a time.
_REQUESTS = 32
# Parts that were finished last, whose rate is the rate.
_RECENT = 64


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        out: Its folder.
        model: Name and precision; None where nothing was embedded yet.
        shards, done: How many there are, and how many have a part.
        begun: Shards that are being worked on, or whose process died.
        partial: Numbers of those whose source could not be read to its end.
        unreadable: Number of a part that cannot be read -> why.
        rows, embedded, failed: Pictures so far.
        failures: Reason -> how many, most frequent first.
        per_second: Pictures, of the parts finished last, all machines together.
        seconds_left: At that rate, by bytes; None where nobody can know, or all is done.
    """

    out: str
    model: str | None
    shards: int
    done: int
    begun: int
    partial: tuple[int, ...]
    unreadable: dict[int, str]
    rows: int
    embedded: int
    failed: int
    failures: dict[str, int]
    per_second: float | None
    seconds_left: float | None


def status(out: str | os.PathLike[str] | Plan) -> Status:
    """Counts what a run has done; reads the footer of every part.

    Args:
        out: The run's folder, or its plan.

    Raises:
        ShardError: There is no run.

    Examples:
        >>> plan = shards.plan("photos", "OUT", rows=5)
        >>> shards.status("OUT").done, shards.status("OUT").shards
        (0, 3)
    """
    plan = out if isinstance(out, Plan) else Plan.read(out)
    done = sorted(finished(plan))

    def read(index: int) -> Footer | str:
        try:
            return plan.part(index).footer()
        except ShardError as error:
            return str(error)

    with ThreadPoolExecutor(_REQUESTS, "bareclip-footers") as pool:
        found = dict(zip(done, pool.map(read, done), strict=True))
    footers = [one for one in found.values() if isinstance(one, Footer)]
    model = read_model(plan)
    failures: Counter[str] = Counter()
    for footer in footers:
        failures.update(footer.failures)
    pace = Pace(plan, footers)
    return Status(
        out=plan.out,
        model=None if model is None else f"{model.model}, {model.precision}",
        shards=len(plan),
        done=len(done),
        begun=len(begun(plan.place).keys() - found.keys()),
        partial=tuple(index for index, one in found.items() if _is_partial(one)),
        unreadable={index: one for index, one in found.items() if isinstance(one, str)},
        rows=sum(footer.rows for footer in footers),
        embedded=sum(footer.embedded for footer in footers),
        failed=sum(footer.failed for footer in footers),
        failures=dict(failures.most_common()),
        per_second=pace.per_second,
        seconds_left=pace.seconds_left,
    )


def _is_partial(found: Footer | str) -> bool:
    return isinstance(found, Footer) and found.partial


class Pace:
    """How fast a run is: from the parts that were finished last, and how long for the others.

    Args:
        plan: The run's.
        footers: Of the parts so far.
    """

    def __init__(self, plan: Plan, footers: Iterable[Footer] = ()) -> None:
        self._plan = plan
        self._footers = list(footers)

    def add(self, footer: Footer) -> None:
        self._footers.append(footer)

    @property
    def per_second(self) -> float | None:
        """Pictures, all machines together; None before the first part."""
        recent = self._recent()
        seconds = _span(recent)
        return sum(footer.rows for footer in recent) / seconds if seconds else None

    @property
    def seconds_left(self) -> float | None:
        """None before the first part, and when all are there."""
        left = len(self._plan) - len(self._footers)
        recent = self._recent()
        # Shards are cut alike; a count of pictures is not known of tars.
        return _span(recent) / len(recent) * left if left and recent else None

    def _recent(self) -> list[Footer]:
        return sorted(self._footers, key=lambda one: one.started + one.seconds)[-_RECENT:]


def _span(footers: list[Footer]) -> float:
    if not footers:
        return 0.0
    first = min(footer.started for footer in footers)
    return max(footer.started + footer.seconds for footer in footers) - first
