"""Vocabularies of a few words for tokenizers like BERT's."""

import string
from pathlib import Path
from typing import Any

from .clip import write_json

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = "a photo of the cat dog two red circle on beach 猫 犬 一 只 海 ##s ##t ##ing ##is".split()  # noqa: SIM905


def word_piece_vocabulary() -> list[str]:
    """Special tokens, letters, a few words: a vocab.txt's lines."""
    letters = [*string.ascii_lowercase, *string.digits, *"ABC-!,.é고양이ﺏب"]
    return [*SPECIAL, *dict.fromkeys([*letters, *(f"##{c}" for c in letters), *_WORDS])]


def write_word_pieces(folder: Path, vocabulary: list[str], **config: Any) -> int:
    """A vocab.txt and what tokenizer_config.json says of it; returns its rows."""
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    return len(vocabulary)
