"""Which combinations training may show, and which are held out.

Membership is a property of the combination's words alone, so that it never depends on a seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from demo_model.captions import count_phrase
from demo_model.concepts import COLOURS, COUNT_WORDS, SHAPES

HELD_OUT_PERCENT = 15
ALWAYS_HELD_OUT = frozenset({"three green triangles"})


@dataclass(frozen=True)
class CountedShapes:
    """Several equal shapes: "three green triangles"."""

    count: int
    colour: str
    shape: str

    @property
    def phrase(self) -> str:
        """The combination in words."""
        return count_phrase(self.count, f"{self.colour} {self.shape}")


def is_held_out(*parts: str) -> bool:
    """Says whether a combination of these words, in any order, is kept from training."""
    joined = " + ".join(sorted(parts))
    digest = hashlib.sha256(joined.encode()).digest()
    return joined in ALWAYS_HELD_OUT or digest[0] * 100 < HELD_OUT_PERCENT * 256


def counted_shapes(*, held_out: bool) -> tuple[CountedShapes, ...]:
    """Returns every count, colour and shape of the wanted side of the split."""
    everything = (
        CountedShapes(count, colour, shape)
        for count in COUNT_WORDS
        for colour in COLOURS
        for shape in SHAPES
    )
    return tuple(item for item in everything if is_held_out(item.phrase) == held_out)
