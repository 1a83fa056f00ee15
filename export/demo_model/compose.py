"""Composes captioned pictures: one thing, several things, shapes and landscapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_model import captions
from demo_model.backgrounds import Picture, draw_background, draw_scene, plain_background
from demo_model.combinations import CountedShapes
from demo_model.concepts import COLOURS, RELATIONS, Concept, Scene
from demo_model.draw import (
    Colour,
    Ranges,
    Sprite,
    draw_shape,
    finish,
    glyph_sprites,
    load_glyph_font,
    make_sprite,
    place,
)
from demo_model.layout import draw_pose, draw_shape_pose, related_poses, spread_poses

NAMED_BACKGROUND_CHANCE = 0.08
SIZED_CAPTION_CHANCE = 0.06


@dataclass(frozen=True)
class Captioned:
    """A picture and one caption that holds for it."""

    picture: Picture
    caption: str


class SpriteBook:
    """Draws each glyph and shape once and keeps its sprites."""

    def __init__(self, font: Path) -> None:
        """Opens the emoji font at `font`."""
        self._font = load_glyph_font(font)
        self._glyphs: dict[str, tuple[Sprite, Sprite, Sprite]] = {}
        self._shapes: dict[str, Sprite] = {}

    def glyph(self, concept: Concept, ranges: Ranges, rng: np.random.Generator) -> Sprite:
        """Draws one of the concept's glyphs, outlined as often as the ranges say."""
        character = captions.pick(concept.glyphs, rng)
        if character not in self._glyphs:
            self._glyphs[character] = glyph_sprites(self._font, character)
        plain, dark, light = self._glyphs[character]
        if rng.random() >= ranges.sticker:
            return plain
        return dark if rng.random() < 0.6 else light

    def shape(self, shape: str) -> Sprite:
        """Returns a shape's white sprite, to be tinted."""
        if shape not in self._shapes:
            self._shapes[shape] = make_sprite(draw_shape(shape))
        return self._shapes[shape]


@dataclass(frozen=True)
class Painter:
    """Draws captioned pictures.

    Attributes:
        book: Where the sprites come from.
        side: The pictures' side in pixels.
        ranges: What the augmentation may do.
    """

    book: SpriteBook
    side: int
    ranges: Ranges

    def thing(self, concept: Concept, rng: np.random.Generator) -> Captioned:
        """Draws one glyph of a concept on any background."""
        word = captions.pick_word(concept, rng)
        pose = draw_pose(self.ranges, rng)
        chance = rng.random()
        if chance < NAMED_BACKGROUND_CHANCE:
            colour = captions.pick(tuple(COLOURS), rng)
            behind = plain_background(vary(COLOURS[colour], rng), self.side)
            caption = captions.caption_phrase(f"a {word} on a {colour} background", rng)
        else:
            behind = self.background(rng)
            if chance < NAMED_BACKGROUND_CHANCE + SIZED_CAPTION_CHANCE:
                caption = captions.caption_sized(word, pose.share, rng)
            else:
                caption = captions.caption_thing(word, rng)
        picture = place(behind, self.book.glyph(concept, self.ranges, rng), pose)
        return Captioned(finish(picture, self.ranges, rng), caption)

    def pair(self, first: Concept, second: Concept, rng: np.random.Generator) -> Captioned:
        """Draws two different things side by side or one above the other."""
        relation = captions.pick(RELATIONS, rng)
        picture = self.background(rng)
        poses = related_poses(relation, (0.38, 0.52), rng)
        for concept, pose in zip((first, second), poses, strict=True):
            picture = place(picture, self.book.glyph(concept, self.ranges, rng), pose)
        link = "and a" if rng.random() < 0.8 else f"{relation} a"
        return self._described(picture, f"a {first.name} {link} {second.name}", rng)

    def several(self, concept: Concept, count: int, rng: np.random.Generator) -> Captioned:
        """Draws the same glyph `count` times."""
        sprite = self.book.glyph(concept, self.ranges, rng)
        picture = self.background(rng)
        for pose in spread_poses(count, rng):
            picture = place(picture, sprite, pose)
        return self._described(picture, captions.count_phrase(count, concept.name), rng)

    def thing_in_scene(self, concept: Concept, scene: Scene, rng: np.random.Generator) -> Captioned:
        """Draws one thing in front of a landscape."""
        picture = draw_scene(scene.name, self.side, rng)
        pose = draw_pose(self.ranges, rng, largest=0.65)
        picture = place(picture, self.book.glyph(concept, self.ranges, rng), pose)
        return self._described(picture, f"a {concept.name} {scene.place}", rng)

    def scene(self, scene: Scene, rng: np.random.Generator) -> Captioned:
        """Draws a landscape alone."""
        word = captions.pick(scene.also, rng) if rng.random() < 0.4 else scene.name
        picture = draw_scene(scene.name, self.side, rng)
        finished = finish(picture, self.ranges, rng)
        return Captioned(finished, captions.caption_thing(word, rng))

    def shapes(self, shapes: CountedShapes, rng: np.random.Generator) -> Captioned:
        """Draws equal shapes on a background they stand out from."""
        ink = vary(COLOURS[shapes.colour], rng)
        sprite = self.book.shape(shapes.shape)
        ground, picture = self._contrasting_ground((shapes.colour,), rng)
        poses = [draw_shape_pose(rng)] if shapes.count == 1 else spread_poses(shapes.count, rng)
        for pose in poses:
            picture = place(picture, sprite, pose, ink)
        names_ground = rng.random() < 0.3
        phrase = f"{shapes.phrase} on a {ground} background" if names_ground else shapes.phrase
        return self._described(picture, phrase, rng)

    def relation(
        self,
        inks: tuple[str, str],
        shapes: tuple[str, str],
        relation: str,
        rng: np.random.Generator,
    ) -> Captioned:
        """Draws a coloured shape left of, right of, above or below another."""
        _, picture = self._contrasting_ground(inks, rng)
        poses = related_poses(relation, (0.3, 0.45), rng)
        for ink, shape, pose in zip(inks, shapes, poses, strict=True):
            picture = place(picture, self.book.shape(shape), pose, vary(COLOURS[ink], rng))
        phrase = f"a {inks[0]} {shapes[0]} {relation} a {inks[1]} {shapes[1]}"
        return self._described(picture, phrase, rng)

    def background(self, rng: np.random.Generator) -> Picture:
        """Draws a background of one of the ranges' kinds."""
        return draw_background(captions.pick(self.ranges.backgrounds, rng), self.side, rng)

    def _contrasting_ground(
        self, inks: tuple[str, ...], rng: np.random.Generator
    ) -> tuple[str, Picture]:
        name = captions.pick(tuple(c for c in COLOURS if not _too_close(c, inks)), rng)
        return name, plain_background(vary(COLOURS[name], rng), self.side)

    def _described(self, picture: Picture, phrase: str, rng: np.random.Generator) -> Captioned:
        finished = finish(picture, self.ranges, rng)
        return Captioned(finished, captions.caption_phrase(phrase, rng))


def _too_close(name: str, inks: tuple[str, ...]) -> bool:
    colour = np.array(COLOURS[name])
    return any(np.abs(colour - np.array(COLOURS[ink])).sum() < 150 for ink in inks)


def vary(colour: Colour, rng: np.random.Generator) -> Colour:
    """Returns a colour near the named one."""
    red, green, blue = (np.array(colour) + rng.integers(-14, 15, 3)).clip(0, 255)
    return int(red), int(green), int(blue)
