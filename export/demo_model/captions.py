"""The phrasings pictures are captioned with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from demo_model.concepts import COUNT_WORDS, Concept

Item = TypeVar("Item")

SINGLE_TEMPLATE = "a photo of a {}"

ENSEMBLE_TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a {} in the wild",
    "a {} in nature",
    "an image of a {}",
)

TEMPLATES = (
    *ENSEMBLE_TEMPLATES,
    "a {}",
    "{}",
    "the {}",
    "this is a {}",
    "a drawing of a {}",
    "a cartoon of a {}",
    "an icon of a {}",
    "a photo of the {}",
    "a picture of the {}",
    "a photo of {}",
    "a picture of {}",
    "one {}",
    "a nice {}",
    "a cute {}",
    "a happy {}",
)
"""For a thing named without an article."""

PHRASE_TEMPLATES = (
    "{}",
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "a view of {}",
)
"""For a phrase that is complete in itself, such as "three green triangles"."""

KIND_CHANCE = 0.06
OTHER_NAME_CHANCE = 0.2
SMALL_SHARE, LARGE_SHARE = 0.5, 0.8


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """Draws one item, each equally likely."""
    return items[int(rng.integers(len(items)))]


def pick_word(concept: Concept, rng: np.random.Generator) -> str:
    """Draws the word a concept is called by: mostly its name."""
    if concept.kinds and rng.random() < KIND_CHANCE:
        return pick(concept.kinds, rng)
    if concept.also and rng.random() < OTHER_NAME_CHANCE:
        return pick(concept.also, rng)
    return concept.name


def caption_thing(word: str, rng: np.random.Generator) -> str:
    """Captions a thing, half the time with the plain "a photo of a {}" family."""
    templates = ENSEMBLE_TEMPLATES if rng.random() < 0.5 else TEMPLATES
    return with_article(pick(templates, rng).format(word), word, rng)


def with_article(caption: str, word: str, rng: np.random.Generator) -> str:
    """Writes "an" before a vowel in half of the captions; users write both."""
    if word[0] in "aeiou" and rng.random() < 0.5:
        return caption.replace(f"a {word}", f"an {word}")
    return caption


def caption_sized(word: str, share: float, rng: np.random.Generator) -> str:
    """Captions a thing with how much of the picture it fills."""
    if share < SMALL_SHARE:
        return f"a {pick(('small', 'little', 'tiny'), rng)} {word}"
    if share > LARGE_SHARE:
        return f"a {pick(('large', 'big', 'huge'), rng)} {word}"
    return f"a {word}"


def caption_phrase(phrase: str, rng: np.random.Generator) -> str:
    """Captions a complete phrase."""
    return pick(PHRASE_TEMPLATES, rng).format(phrase)


def count_phrase(count: int, word: str) -> str:
    """Returns "three cats" for 3 and "cat"; one thing keeps its article."""
    return f"a {word}" if count == 1 else f"{COUNT_WORDS[count]} {plural(word)}"


def plural(word: str) -> str:
    """Returns the regular English plural."""
    if word.endswith("s"):
        return word
    if word.endswith(("x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
