"""Trains the byte-pair vocabulary on the captions and saves it as CLIP's tokenizer files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tokenizers import Regex
from tokenizers.normalizers import NFC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from transformers import CLIPTokenizerFast

from demo_model import captions
from demo_model.combinations import counted_shapes
from demo_model.concepts import COLOURS, RELATIONS, SCENES, SHAPES, load_concepts

VOCABULARY_SIZE = 2048
CONTEXT_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's word pattern."""
END_OF_WORD = "</w>"


def training_texts() -> Iterator[str]:
    """Yields every name in every template, and the combinations training shows."""
    rng = np.random.default_rng(0)
    for concept in load_concepts():
        for word in (concept.name, *concept.also, *concept.kinds):
            yield from (template.format(word) for template in captions.TEMPLATES)
            yield captions.plural(word)
            yield captions.caption_sized(word, float(rng.choice([0.4, 0.9])), rng)
    for shapes in counted_shapes(held_out=False):
        yield f"{shapes.phrase} {captions.pick(RELATIONS, rng)}"
    for scene in SCENES:
        yield from (scene.name, *scene.also, scene.place)
    for colour in COLOURS:
        yield from (f"a {colour} {shape} on a {colour} background" for shape in SHAPES)


def count_words(texts: Iterator[str]) -> Counter[tuple[str, ...]]:
    """Counts the texts' words, each as its bytes' letters with the end of the word marked."""
    normalizer = Normalizers([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
    splitter = PreTokenizers(
        [
            Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False),
        ]
    )
    words = (
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    return Counter((*word[:-1], word[-1] + END_OF_WORD) for word in words)


def train_merges(words: Counter[tuple[str, ...]], count: int) -> list[tuple[str, str]]:
    """Merges the most frequent pair of neighbours, `count` times or until words are whole.

    `tokenizers` has a faster trainer, but ties between pairs fall differently in each of its
    runs; here the first pair in code point order wins.
    """
    merges: list[tuple[str, str]] = []
    pieces = {word: word for word in words}
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def _letters() -> list[str]:
    """Returns every byte's letter, inside a word and at its end: no text is unknown."""
    alphabet = sorted(ByteLevel.alphabet())
    return alphabet + [letter + END_OF_WORD for letter in alphabet]


def save_tokenizer(directory: Path, texts: Iterator[str]) -> CLIPTokenizerFast:
    """Trains the vocabulary and saves it; the start and end tokens take the two highest ids."""
    merges = train_merges(count_words(texts), VOCABULARY_SIZE - len(_letters()) - 2)
    tokens = [*_letters(), *(first + second for first, second in merges), START, END]
    with TemporaryDirectory() as scratch:
        vocabulary, merge_list = Path(scratch, "vocab.json"), Path(scratch, "merges.txt")
        vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
        merge_list.write_text("\n".join(lines), encoding="utf-8")
        tokenizer = CLIPTokenizerFast(
            str(vocabulary), str(merge_list), model_max_length=CONTEXT_LENGTH
        )
    tokenizer.save_pretrained(directory)
    return tokenizer
