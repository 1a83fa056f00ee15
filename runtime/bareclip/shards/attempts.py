"""How often a shard was begun, counted in the run's folder: any engine on any machine sees it.

``attempts/000017/1-...`` is written before a shard is begun, and removed when it ends as Python
ends things, with a part, an error or an interrupt. What stays is of a process that died: by a
picture, or because its machine went away. ``attempts/000017/row-...`` names a picture that has
killed the child it was decoded in, so that none does twice.
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
    folder = _folder(out, shard)
    died, killers = 0, {}
    for found in folder.files():
        name = Place(found.uri).name
        if (row := re.fullmatch(r"row-(\d+)", name)) is not None:
            killers[int(row[1])] = Place(found.uri).read().decode("utf-8", "replace")
        elif re.fullmatch(r"\d+-\w+", name):
            died += 1
    about = {"host": socket.gethostname(), "process": os.getpid(), "started": time.time()}
    marker = folder / f"{died + 1}-{secrets.token_hex(4)}"
    marker.write(json.dumps(about).encode())
    try:
        yield Attempt(died + 1, killers)
    finally:
        marker.delete()


def note_killer(out: Place, shard: int, row: int, why: str) -> None:
    """Has no later attempt decode a picture that killed its decoder.

    Raises:
        ShardError: The run's folder cannot be written.
    """
    (_folder(out, shard) / f"row-{row}").write(why.encode())


def begun(out: Place) -> dict[int, int]:
    """Shards that were begun and have not ended, with how many attempts of each.

    They are being worked on, or their process died.
    """
    counts: dict[int, int] = {}
    for found in (out / "attempts").files(recursive=True):
        shard = re.fullmatch(r".*/(\d+)/\d+-\w+", found.uri)
        if shard is not None:
            counts[int(shard[1])] = counts.get(int(shard[1]), 0) + 1
    return counts


def _folder(out: Place, shard: int) -> Place:
    return out / "attempts" / f"{shard:06}"
