"""The pictures the model is judged on; each split is drawn from its own seed.

* validation: training's ranges, other seeds; the only split training looks at.
* renderings: sizes, turns and backgrounds that training never shows (`draw.HELD_OUT`).
* newest backgrounds: the same on rings and bricks alone, which no earlier model met either.
* other artist: the same things drawn by another font, in training's ranges.

Held-out combinations are in `questions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from demo_model.backgrounds import Picture
from demo_model.compose import Painter, SpriteBook
from demo_model.concepts import Concept
from demo_model.draw import HELD_OUT, TRAINING, finish, place
from demo_model.layout import draw_pose

VALIDATION_SEED, RENDERING_SEED, ARTIST_SEED, ANIMAL_SEED, NEWEST_SEED = 101, 302, 103, 304, 305

ANIMALS = ("cat", "dog", "bird", "fish")
EVERYDAY = (*ANIMALS, "sunset", "ocean", "car", "flower")


@dataclass(frozen=True)
class Labelled:
    """A picture and the words that name what it shows."""

    picture: Picture
    label: str


def plain_labels(concepts: Sequence[Concept], count: int) -> tuple[str, ...]:
    """Chooses `count` names of which none is a kind of another, everyday words first.

    The order after those is that of the names' digests, so that nobody's taste chose them.
    """
    by_digest = sorted(concepts, key=lambda c: hashlib.sha256(c.name.encode()).digest())
    by_name = {concept.name: concept for concept in concepts}
    chosen: dict[str, Concept] = {name: by_name[name] for name in EVERYDAY}
    for concept in by_digest:
        is_kind = any(concept.name in other.kinds for other in chosen.values())
        if len(chosen) < count and not is_kind and not chosen.keys() & set(concept.kinds):
            chosen[concept.name] = concept
    return tuple(chosen)


def draw_labelled(painter: Painter, concept: Concept, rng: np.random.Generator) -> Labelled:
    """Draws one thing, as training does, without a caption."""
    sprite = painter.book.glyph(concept, painter.ranges, rng)
    picture = place(painter.background(rng), sprite, draw_pose(painter.ranges, rng))
    return Labelled(finish(picture, painter.ranges, rng), concept.name)


def draw_split(
    painter: Painter, concepts: Sequence[Concept], each: int, seed: int
) -> list[Labelled]:
    """Draws `each` pictures of every concept."""
    return [
        draw_labelled(painter, concept, np.random.default_rng((seed, index, copy)))
        for index, concept in enumerate(concepts)
        for copy in range(each)
    ]


def validation_pictures(
    book: SpriteBook, concepts: Sequence[Concept], each: int, side: int
) -> list[Labelled]:
    """Draws the validation split."""
    return draw_split(Painter(book, side, TRAINING), concepts, each, VALIDATION_SEED)


def rendering_pictures(
    book: SpriteBook, concepts: Sequence[Concept], each: int, side: int
) -> list[Labelled]:
    """Draws held-out renderings."""
    return draw_split(Painter(book, side, HELD_OUT), concepts, each, RENDERING_SEED)


def newest_pictures(
    book: SpriteBook, concepts: Sequence[Concept], each: int, side: int
) -> list[Labelled]:
    """Draws held-out renderings on the backgrounds that were added last."""
    ranges = replace(HELD_OUT, backgrounds=("rings", "bricks"))
    return draw_split(Painter(book, side, ranges), concepts, each, NEWEST_SEED)


def animal_pictures(
    book: SpriteBook, concepts: Sequence[Concept], each: int, side: int
) -> list[Labelled]:
    """Draws held-out renderings of the four animals."""
    animals = [concept for concept in concepts if concept.name in ANIMALS]
    return draw_split(Painter(book, side, HELD_OUT), animals, each, ANIMAL_SEED)


def other_artist_pictures(
    other_book: SpriteBook, concepts: Sequence[Concept], each: int, side: int
) -> list[Labelled]:
    """Draws another font's glyphs."""
    return draw_split(Painter(other_book, side, TRAINING), concepts, each, ARTIST_SEED)
