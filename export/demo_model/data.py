"""The training stream: batch `i` is a function of the seed and `i` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizerFast

from demo_model.captions import pick
from demo_model.combinations import CountedShapes, counted_shapes, is_held_out
from demo_model.compose import Captioned, Painter, SpriteBook
from demo_model.concepts import (
    COLOURS,
    COUNT_WORDS,
    RELATIONS,
    SCENES,
    SHAPES,
    Concept,
    load_concepts,
)
from demo_model.draw import TRAINING

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""The CLIP paper's channel statistics, RGB, on 0..1."""

# Shares of a batch; what is left shows one thing.
PAIR_SHARE = 0.07
SEVERAL_SHARE = 0.03
IN_SCENE_SHARE = 0.04
SHAPE_SHARE = 0.05
COUNTED_SHARE = 0.11
RELATION_SHARE = 0.05


@dataclass(frozen=True)
class Batch:
    """Pictures with the captions that hold for them.

    Attributes:
        pixels: `float32 [batch, 3, side, side]`, normalised as CLIP's pictures are.
        tokens: `int64 [batch, longest caption]`, padded with the end token.
    """

    pixels: Tensor
    tokens: Tensor


class TrainingStream(Dataset[Batch]):
    """Draws whole batches; `stream[i]` never depends on which batches were drawn before."""

    def __init__(
        self,
        *,
        font: Path,
        tokenizer: CLIPTokenizerFast,
        batch_size: int,
        sides: tuple[int, ...],
        seed: int,
    ) -> None:
        """Takes the picture side of every step in `sides`."""
        self._book = SpriteBook(font)
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._sides = sides
        self._seed = seed
        self._concepts = load_concepts()

    def __len__(self) -> int:
        """Returns the number of steps."""
        return len(self._sides)

    def __getitem__(self, step: int) -> Batch:
        """Draws the batch of one step."""
        rng = np.random.default_rng((self._seed, step))
        painter = Painter(self._book, self._sides[step], TRAINING)
        samples = draw_samples(painter, self._concepts, self._batch_size, rng)
        return Batch(
            pixels=normalised(np.stack([sample.picture for sample in samples])),
            tokens=tokenized(self._tokenizer, [sample.caption for sample in samples]),
        )


def draw_samples(
    painter: Painter, concepts: tuple[Concept, ...], count: int, rng: np.random.Generator
) -> list[Captioned]:
    """Draws `count` training pictures, no two with the same caption.

    Most show one thing, and no two of those the same unless there are fewer things than
    pictures: the loss takes every other caption as wrong, that of another "cat" too.
    """
    samples: dict[str, Captioned] = {}
    for sample in _endless_samples(painter, concepts, count, rng):
        samples.setdefault(sample.caption, sample)
        if len(samples) == count:
            break
    return list(samples.values())


def _endless_samples(
    painter: Painter, concepts: tuple[Concept, ...], count: int, rng: np.random.Generator
) -> Iterator[Captioned]:
    for scene in SCENES[: max(1, count // 32)]:
        yield painter.scene(scene, rng)
    for _ in range(int(count * PAIR_SHARE)):
        yield painter.pair(*_training_pair(concepts, rng), rng)
    for _ in range(int(count * SEVERAL_SHARE)):
        concept, number = pick(concepts, rng), pick(tuple(COUNT_WORDS), rng)
        yield painter.several(concept, number, rng)
    for _ in range(int(count * IN_SCENE_SHARE)):
        yield painter.thing_in_scene(pick(concepts, rng), pick(SCENES, rng), rng)
    for _ in range(int(count * SHAPE_SHARE)):
        shape = CountedShapes(1, pick(tuple(COLOURS), rng), pick(SHAPES, rng))
        yield painter.shapes(shape, rng)
    counted = counted_shapes(held_out=False)
    for index in rng.permutation(len(counted))[: int(count * COUNTED_SHARE)]:
        yield painter.shapes(counted[index], rng)
    for _ in range(int(count * RELATION_SHARE) // len(RELATIONS)):
        inks, shapes = _training_relation(rng)
        for relation in RELATIONS:  # side by side in one batch, or the loss never asks which
            yield painter.relation(inks, shapes, relation, rng)
    while True:
        for index in rng.permutation(len(concepts)):
            yield painter.thing(concepts[index], rng)


def _training_pair(
    concepts: tuple[Concept, ...], rng: np.random.Generator
) -> tuple[Concept, Concept]:
    while True:
        first, second = rng.choice(len(concepts), size=2, replace=False)
        pair = concepts[first], concepts[second]
        if not is_held_out(pair[0].name, pair[1].name):
            return pair


def _training_relation(rng: np.random.Generator) -> tuple[tuple[str, str], tuple[str, str]]:
    while True:
        inks = pick(tuple(COLOURS), rng), pick(tuple(COLOURS), rng)
        shapes = pick(SHAPES, rng), pick(SHAPES, rng)
        words = [f"{ink} {shape}" for ink, shape in zip(inks, shapes, strict=True)]
        if words[0] != words[1] and not is_held_out(*words):
            return inks, shapes


def normalised(pictures: np.ndarray) -> Tensor:
    """Returns `uint8 [batch, side, side, 3]` pictures as the model's pixel values."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def tokenized(tokenizer: CLIPTokenizerFast, texts: list[str]) -> Tensor:
    """Returns token ids `[texts, longest]`; padding follows the end token, so no mask is needed."""
    ids: Tensor = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")["input_ids"]
    return ids


def drawn_ahead(stream: TrainingStream, first_step: int) -> Iterator[Batch]:
    """Yields the batches from `first_step` on, drawn by one process ahead of their use."""
    steps = range(first_step, len(stream))
    return iter(
        DataLoader(stream, batch_size=None, sampler=steps, num_workers=1, prefetch_factor=6)
    )
