"""Engines: who hands out numbers of shards. Here the one that takes them itself, in turn.

An engine is a function that takes a plan, numbers of shards and how to get a ``Clip``, calls
``run_shard`` wherever it likes, and yields an event per shard as it ends. It holds nothing that a
run of it again would need: what is done is what has a part.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ..clip import Clip
from ..errors import BareclipError, ShardError
from .model import claim_model
from .part import Footer
from .places import UnwritableError
from .plans import Plan
from .work import Report, run_shard


@dataclass(frozen=True)
class Finished:
    """A shard has its part."""

    shard: int
    footer: Footer


@dataclass(frozen=True)
class Refused:
    """A shard could not be done, and others may be; why, in one line."""

    shard: int
    reason: str


Event: TypeAlias = Finished | Refused


def unfinished(plan: Plan) -> list[int]:
    """Numbers of the shards without a part; costs one listing, however many there are.

    Examples:
        >>> plan = shards.plan("photos", "OUT", rows=5)
        >>> shards.unfinished(plan)
        [0, 1, 2]
    """
    done = finished(plan)
    return [index for index in range(len(plan)) if index not in done]


def finished(plan: Plan) -> dict[int, int]:
    """Numbers of the shards that have a part, with its bytes."""
    found = {}
    for one in (plan.place / "parts").files():
        name = re.fullmatch(r".*/part-(\d{6,})\.parquet", one.uri)
        if name is not None and int(name[1]) < len(plan):
            found[int(name[1])] = one.size
    return found


def slice_of(plan: Plan, task: str) -> range:
    """The shards of one of several tasks that a scheduler starts, each knowing only its number.

    Args:
        plan: The run's.
        task: ``"3/100"``: of 100 tasks, numbered from 0, the one numbered 3.

    Raises:
        ShardError: It is no such text.

    Examples:
        >>> plan = shards.plan("photos", "OUT", rows=2)
        >>> list(shards.slice_of(plan, "1/4"))
        [1, 5]
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", task)
    if found is None or int(found[1]) >= int(found[2]):
        raise ShardError(
            f"task {task!r} is none; give its number and how many there are, from 0/100 to 99/100"
        )
    return range(int(found[1]), len(plan), int(found[2]))


def run(
    plan: Plan,
    clip: Clip | Callable[[], Clip],
    shards: Iterable[int] | None = None,
    *,
    report: Report | None = None,
) -> Iterator[Event]:
    """Does shards one after another, in this process.

    Args:
        plan: The run's.
        clip: The model; or what loads it, called where there is something to do.
        shards: Their numbers; None is all that have no part yet.
        report: As for ``run_shard``.

    Yields:
        What became of each shard, when it has ended.

    Raises:
        ShardError: Another model than the run's, or its folder cannot be written.
        BareclipError: The model cannot be loaded.

    Examples:
        >>> plan = shards.plan("photos", "OUT", rows=5)
        >>> [event.footer.embedded for event in shards.run(plan, bareclip.load())]
        [5, 5, 2]
    """
    left = unfinished(plan)
    wanted = left if shards is None else sorted(set(left) & set(shards))
    if not wanted:
        return
    loaded = clip if isinstance(clip, Clip) else clip()
    claim_model(plan, loaded)  # another is refused once, and not for each shard
    for index in wanted:
        yield outcome(plan, index, loaded, report)


def outcome(plan: Plan, index: int, clip: Clip, report: Report | None) -> Event:
    """Does one shard, and says what became of it.

    Raises:
        ShardError: The run's folder cannot be written, so that no other shard can be done either.
    """
    try:
        return Finished(index, run_shard(plan, index, clip, report=report))
    except UnwritableError:
        raise
    except BareclipError as error:
        return Refused(index, str(error))
