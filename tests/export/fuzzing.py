"""Damage, seeded: how much of it is in BARECLIP_FUZZ, for longer runs than the suite's."""

import json
import os
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

COUNT = int(os.environ.get("BARECLIP_FUZZ", "2000"))
# What configs were never meant to hold.
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**70, 1e308, -0.5, "", "a", "1", [], [1], [[]], {},
    {"a": 1},
    ["a", "b"], [1, 2, 3], "gelu", {"__type": "AddedToken"}, float("nan"),
)  # fmt: skip


def damaged(data: bytes, seed: int, count: int = COUNT) -> Iterator[bytes]:
    """Copies with a few bytes changed, cut out, put in or repeated, or an end cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(len(copy)) if copy else 0
            kind = rng.randrange(5)
            if kind == 0 and copy:
                copy[place] = rng.randrange(256)
            elif kind == 1:
                del copy[place : place + rng.choice((1, 2, 8, 64))]
            elif kind == 2:
                copy[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
            elif kind == 3:
                copy[place:place] = copy[place : place + rng.choice((1, 16, 64))]
            elif rng.random() < 0.2:
                del copy[place:]
        yield bytes(copy)


def odd(config: Any, seed: int, count: int = COUNT) -> Iterator[Any]:
    """Copies of parsed JSON in which a few values are others, missing, or elsewhere."""
    rng = random.Random(seed)
    text = json.dumps(config)
    for _ in range(count):
        copy = json.loads(text)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            places = list(_places(copy))
            inside, key = rng.choice(places)
            if rng.random() < 0.15:
                del inside[key]
                if not list(_places(copy)):
                    break
            elif rng.random() < 0.2:
                other, name = rng.choice(places)
                inside[key] = json.loads(json.dumps(other[name]))
            else:
                inside[key] = deepcopy(rng.choice(_ODD))
        yield copy


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in it that has a value; of long lists and objects the first twenty."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items)[:20]:
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)
