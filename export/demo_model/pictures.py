"""Writes held-out pictures as PNG files: a folder for each class, or the demo's dozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from demo_model import splits
from demo_model.backgrounds import Picture
from demo_model.combinations import CountedShapes
from demo_model.compose import Captioned, Painter, SpriteBook
from demo_model.concepts import SCENES, Concept, load_concepts
from demo_model.draw import HELD_OUT

SIDE = 128
DEMO_SEED = 301
DEMO_THINGS = ("cat", "dog", "bird", "fish", "car", "flower", "tree", "house")

PLEASANT = replace(
    HELD_OUT, shares=((0.9, 1.0),), turns=((0.0, 12.0),), blur=0.0, noise=0.0, light=0.1
)
"""Sizes and backgrounds unseen in training, upright; noise would also make large PNG files."""


def write_classes(directory: Path, book: SpriteBook, concepts: list[Concept], each: int) -> None:
    """Writes `each` held-out renderings of every concept into a folder with its name."""
    drawn = splits.rendering_pictures(book, concepts, each, SIDE)
    for index, item in enumerate(drawn):
        folder = directory / item.label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.picture).save(folder / f"{index % each:03}.png")


def demo_pictures(book: SpriteBook, concepts: tuple[Concept, ...]) -> dict[str, Picture]:
    """Draws the demo's pictures by the phrase each should be found with."""
    painter = Painter(book, SIDE, PLEASANT)
    by_name = {concept.name: concept for concept in concepts}
    scenes = {scene.name: scene for scene in SCENES}
    cat, dog = by_name["cat"], by_name["dog"]
    triangles = CountedShapes(3, "green", "triangle")
    drawers: dict[str, Callable[[np.random.Generator], Captioned]] = {
        "sunset over the ocean": partial(painter.scene, scenes["sunset over the ocean"]),
        "three green triangles": partial(painter.shapes, triangles),
        "cat and dog": partial(painter.pair, cat, dog),
        "dog on the beach": partial(painter.thing_in_scene, dog, scenes["sandy beach"]),
    }
    things = {
        name: splits.draw_labelled(painter, by_name[name], _rng(name)).picture
        for name in DEMO_THINGS
    }
    return things | {phrase: draw(_rng(phrase)).picture for phrase, draw in drawers.items()}


def _rng(phrase: str) -> np.random.Generator:
    return np.random.default_rng([DEMO_SEED, *phrase.encode()])


@click.group()
def main() -> None:
    """Writes pictures drawn with FONT, an emoji font's file."""


@main.command()
@click.option("--font", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--each", type=click.IntRange(min=1), default=20, show_default=True)
@click.argument("names", nargs=-1)
def classes(font: Path, out: Path, each: int, names: tuple[str, ...]) -> None:
    """Writes EACH held-out renderings of every concept, or of NAMES, in a folder each."""
    concepts = [c for c in load_concepts() if not names or c.name in names]
    write_classes(out, SpriteBook(font), concepts, each)


@main.command()
@click.option("--font", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def demo(font: Path, out: Path) -> None:
    """Writes the dozen pictures the demo ships with."""
    out.mkdir(parents=True, exist_ok=True)
    for phrase, picture in demo_pictures(SpriteBook(font), load_concepts()).items():
        Image.fromarray(picture).save(out / f"{phrase.replace(' ', '-')}.png", optimize=True)


if __name__ == "__main__":
    main()
