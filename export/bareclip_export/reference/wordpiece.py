"""BERT's WordPiece, by its vocabulary and nothing else.

google-research/bert, tokenization.py; transformers 4.57, tokenization_bert.py, of which special
tokens within a text.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_LONGEST_WORD = 100


def word_pieces(vocab: dict[str, int], config: dict[str, Any]) -> Callable[[str], list[int]]:
    """A text -> ids, between [CLS] and [SEP]."""
    unknown, last, pad, first, mask = (
        _content(config.get(f"{name}_token") or f"[{name.upper()}]")
        for name in ("unk", "sep", "pad", "cls", "mask")
    )
    special = {unknown, last, pad, first, mask}
    cut = re.compile(f"({'|'.join(re.escape(token) for token in sorted(special))})")
    lower = config.get("do_lower_case", True)
    strip = config.get("strip_accents")
    strip = lower if strip is None else strip
    apart = config.get("tokenize_chinese_chars", True)

    def tokens(text: str) -> list[int]:
        ids = [vocab[first]]
        for part in cut.split(text):
            if part in special:
                ids.append(vocab[part])
                continue
            for word in _words(part, lower, strip, apart):
                ids += _pieces(vocab, word, vocab[unknown])
        return [*ids, vocab[last]]

    return tokens


def _words(text: str, lower: bool, strip: bool, apart: bool) -> list[str]:
    kept = "".join(" " if letter in "\t\n\r" else letter for letter in text)
    kept = "".join(c for c in kept if c not in "\0\ufffd" and unicodedata.category(c)[0] != "C")
    if apart:
        kept = "".join(f" {c} " if _is_cjk(c) else c for c in kept)
    if strip:
        parts = unicodedata.normalize("NFD", kept)
        kept = "".join(c for c in parts if unicodedata.category(c) != "Mn")
    if lower:
        kept = "".join(map(str.lower, kept))
    return "".join(f" {c} " if _is_punctuation(c) else c for c in kept).split()


def _pieces(vocab: dict[str, int], word: str, unknown: int) -> list[int]:
    """The longest piece first, from the left."""
    if len(word) > _LONGEST_WORD:
        return [unknown]
    ids, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if mark + word[start:end] in vocab), None)
        if end is None:
            return [unknown]
        ids.append(vocab[mark + word[start:end]])
        start = end
    return ids


def _is_cjk(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in _CJK)


def _is_punctuation(letter: str) -> bool:
    """All of ASCII that is neither letter, digit nor space counts as such."""
    if letter.isascii():
        return not letter.isalnum() and letter > " "
    return unicodedata.category(letter)[0] == "P"


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
