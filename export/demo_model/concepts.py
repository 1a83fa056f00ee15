"""The concepts the demo model is taught: glyphs with plain names, coloured shapes and scenes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

CONCEPTS_FILE = Path(__file__).with_name("concepts.tsv")


@dataclass(frozen=True)
class Concept:
    """One thing the model can name.

    Attributes:
        name: The plain name, used as the class label.
        glyphs: Emoji characters that depict it; each is one code point.
        also: Other names that mean the same thing.
        kinds: Broader words that also hold ("animal" for a cat).
    """

    name: str
    glyphs: tuple[str, ...]
    also: tuple[str, ...]
    kinds: tuple[str, ...]


def load_concepts(path: Path = CONCEPTS_FILE) -> tuple[Concept, ...]:
    """Reads the concept table, in file order."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(
        Concept(
            name=row["name"],
            glyphs=tuple(row["glyphs"].split()),
            also=_words(row["also"]),
            kinds=_words(row["kinds"]),
        )
        for row in rows
    )


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(",") if word.strip())


COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 40),
    "green": (40, 160, 60),
    "blue": (40, 90, 225),
    "purple": (135, 50, 180),
    "pink": (250, 150, 195),
    "brown": (120, 72, 35),
    "black": (20, 20, 20),
    "white": (248, 248, 248),
}
"""RGB, 0..255."""

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "hexagon",
    "cross",
    "ring",
    "oval",
)

COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}

RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Scene:
    """A drawn landscape.

    Attributes:
        name: The plain name.
        also: Other names that hold for the whole picture.
        place: How a thing drawn in front of it is described ("a cat" + place).
    """

    name: str
    also: tuple[str, ...]
    place: str


SCENES = (
    Scene("sunset over the ocean", ("sunset over the sea", "sunset", "ocean sunset"), "at sunset"),
    Scene("calm ocean", ("ocean", "sea", "blue sea"), "by the ocean"),
    Scene("starry night", ("night sky", "night sky with stars"), "at night"),
    Scene("green field", ("meadow", "grass"), "in a green field"),
    Scene("sandy beach", ("beach", "beach by the sea"), "on the beach"),
    Scene("rainy day", ("rainy sky",), "in the rain"),
    Scene("snowy day", ("falling snow", "snowy field"), "in the snow"),
)
