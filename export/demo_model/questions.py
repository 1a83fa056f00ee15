"""Held-out combinations: each picture with the phrase that holds and phrases that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from demo_model.backgrounds import Picture
from demo_model.captions import pick
from demo_model.combinations import CountedShapes, counted_shapes, is_held_out
from demo_model.compose import Painter
from demo_model.concepts import COLOURS, COUNT_WORDS, RELATIONS, SHAPES, Concept

PAIR_SEED, RELATION_SEED, PICTURE_SEED = range(201, 204)

Part = TypeVar("Part")
ColouredShapes = tuple[tuple[str, str], tuple[str, str]]
"""Two colours, then two shapes."""


@dataclass(frozen=True)
class Question:
    """A picture and the phrases to choose from.

    Attributes:
        picture: What is shown.
        phrases: The candidates, in an order that does not depend on the picture.
        right: The index of the phrase that holds.
    """

    picture: Picture
    phrases: tuple[str, ...]
    right: int


def ask_counted(painter: Painter, each: int) -> list[Question]:
    """Draws held-out counted shapes; all counts, colours and shapes are candidates."""
    held_out = counted_shapes(held_out=True)
    phrases = tuple(s.phrase for s in (*held_out, *counted_shapes(held_out=False)))
    return _ask_each(held_out, each, partial(_ask_shapes, painter, phrases))


def ask_how_many(painter: Painter, each: int) -> list[Question]:
    """Draws held-out counted shapes; only the number differs between the candidates."""

    def ask(shapes: CountedShapes, rng: np.random.Generator) -> Question:
        phrases = tuple(
            CountedShapes(count, shapes.colour, shapes.shape).phrase for count in COUNT_WORDS
        )
        return _ask_shapes(painter, phrases, shapes, rng)

    return _ask_each(counted_shapes(held_out=True), each, ask)


def ask_pairs(painter: Painter, concepts: Sequence[Concept], count: int) -> list[Question]:
    """Draws held-out pairs of things; all those pairs are candidates."""
    pairs = held_out_pairs(concepts, count)
    phrases = tuple(f"a {first.name} and a {second.name}" for first, second in pairs)

    def ask(pair: tuple[Concept, Concept], rng: np.random.Generator) -> Question:
        picture = painter.pair(*pair, rng).picture
        return Question(picture, phrases, pairs.index(pair))

    return _ask_each(pairs, 1, ask)


def ask_relations(painter: Painter, count: int) -> list[Question]:
    """Draws held-out pairs of coloured shapes; the four relations are candidates."""

    def ask(parts: ColouredShapes, rng: np.random.Generator) -> Question:
        inks, shapes = parts
        relation = pick(RELATIONS, rng)
        drawn = painter.relation(inks, shapes, relation, rng)
        phrases = tuple(
            f"a {inks[0]} {shapes[0]} {each} a {inks[1]} {shapes[1]}" for each in RELATIONS
        )
        return Question(drawn.picture, phrases, RELATIONS.index(relation))

    return _ask_each(held_out_relations(count), 1, ask)


def held_out_pairs(concepts: Sequence[Concept], count: int) -> list[tuple[Concept, Concept]]:
    """Draws pairs of things that training never shows together."""
    rng = np.random.default_rng(PAIR_SEED)
    pairs: list[tuple[Concept, Concept]] = []
    while len(pairs) < count:
        first, second = rng.choice(len(concepts), size=2, replace=False)
        pair = concepts[first], concepts[second]
        if is_held_out(pair[0].name, pair[1].name):
            pairs.append(pair)
    return pairs


def held_out_relations(count: int) -> list[ColouredShapes]:
    """Draws pairs of coloured shapes that training never shows together."""
    rng = np.random.default_rng(RELATION_SEED)
    chosen: list[ColouredShapes] = []
    while len(chosen) < count:
        inks = pick(tuple(COLOURS), rng), pick(tuple(COLOURS), rng)
        shapes = pick(SHAPES, rng), pick(SHAPES, rng)
        words = [f"{ink} {shape}" for ink, shape in zip(inks, shapes, strict=True)]
        if words[0] != words[1] and is_held_out(*words):
            chosen.append((inks, shapes))
    return chosen


def _ask_shapes(
    painter: Painter, phrases: tuple[str, ...], shapes: CountedShapes, rng: np.random.Generator
) -> Question:
    drawn = painter.shapes(shapes, rng)
    return Question(drawn.picture, phrases, phrases.index(shapes.phrase))


def _ask_each(
    parts: Sequence[Part], each: int, ask: Callable[[Part, np.random.Generator], Question]
) -> list[Question]:
    return [
        ask(part, np.random.default_rng((PICTURE_SEED, index, copy)))
        for index, part in enumerate(parts)
        for copy in range(each)
    ]
