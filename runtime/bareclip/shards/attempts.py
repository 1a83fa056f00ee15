"""How often a shard was begun, counted in the run's folder: any engine on any machine sees it.

``attempts/000017-1-...`` is written before a shard is begun, and removed when it ends as Python
ends things, with a part, an error or an interrupt. What stays is of a process that died: by a
picture, or because its machine went away. ``attempts/000017-row-4`` names a picture that has killed
the child it was decoded in, so that none does twice. All lie in one folder, since it holds few: the
shards that are under way, and what died.
"""

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .places import Place

# From this attempt on, pictures are decoded in a child of their own.
ISOLATED = 3
_FOLDER = "attempts"


@dataclass(frozen=True)
class Attempt:
    """One that is under way.

    Attributes:
        number: From 1.
        killers: Number of a row -> why its picture is not decoded any more.
    """

    number: int
    killers: dict[int, str]

    @property
    def isolated(self) -> bool:
        return self.number >= ISOLATED


@contextmanager
def attempt(out: Place, shard: int) -> Iterator[Attempt]:
    """Counts an attempt, for as long as it lasts.

    Raises:
        ShardError: The run's folder cannot be written.
    """
    died, killers = 0, {}
    for mark in _marks(out):
        if mark.shard != shard:
            continue
        if mark.row is None:
            died += 1
        else:
            killers[mark.row] = mark.place.read().decode("utf-8", "replace")
    about = {"host": socket.gethostname(), "process": os.getpid(), "started": time.time()}
    marker = out / _FOLDER / f"{shard:06}-{died + 1}-{secrets.token_hex(4)}"
    try:
        marker.write(json.dumps(about).encode())
        yield Attempt(died + 1, killers)
    finally:
        marker.delete()


def note_killer(out: Place, shard: int, row: int, why: str) -> None:
    """Has no later attempt decode a picture that killed its decoder.

    Raises:
        ShardError: The run's folder cannot be written.
    """
    (out / _FOLDER / f"{shard:06}-row-{row}").write(why.encode())


def begun(out: Place) -> dict[int, int]:
    """Shards that were begun and have not ended, with how many attempts of each.

    They are being worked on, or their process died.
    """
    counts: dict[int, int] = {}
    for mark in _marks(out):
        if mark.row is None:
            counts[mark.shard] = counts.get(mark.shard, 0) + 1
    return counts


@dataclass(frozen=True)
class _Mark:
    """A file in the folder of attempts; of an attempt, or of a row."""

    place: Place
    shard: int
    row: int | None


def _marks(out: Place) -> Iterator[_Mark]:
    for found in (out / _FOLDER).files():
        place = Place(found.uri)
        if (number := re.fullmatch(r"(\d+)-\d+-[0-9a-f]{8}", place.name)) is not None:
            yield _Mark(place, int(number[1]), None)
        elif (killer := re.fullmatch(r"(\d+)-row-(\d+)", place.name)) is not None:
            yield _Mark(place, int(killer[1]), int(killer[2]))
