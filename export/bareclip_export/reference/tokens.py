"""Texts to token ids, as transformers and open_clip do it with a checkpoint's own files.

Where there is a tokenizer.json it is asked as it lies there; SentencePiece's models and CLIP's
vocab.json and merges.txt are read here once more. Slow, and only for short texts.
"""

import html
import json
import re
import string
import unicodedata
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

from ..checkpoint import Checkpoint
from .sentencepiece import Unigram
from .wordpiece import word_pieces

Tokens = Callable[[str], list[int]]


def read_tokens(checkpoint: Checkpoint) -> Tokens:
    """A text -> ids, uncut, of a checkpoint whose tokenizer the exporter has read."""
    folder, config = checkpoint.folder, checkpoint.json("tokenizer_config.json") or {}
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if checkpoint.layout == "open_clip":
        text = checkpoint.config["model_cfg"]["text_cfg"]
        own = text.get("hf_tokenizer_name")
        settings = text.get("tokenizer_kwargs") or {}
        clean = settings.get("clean", "whitespace" if own else "lower")
        inner = _from_file(folder, config, kind) if own else _openai(checkpoint)
        if settings.get("strip_sep_token"):
            return _without_separators(inner, clean)
        return lambda given: inner(_open_clip_clean(given, clean))
    if kind == "SiglipTokenizer":
        if (folder / "spiece.model").is_file():
            return _siglip(folder / "spiece.model", config)
        inner = _from_file(folder, config, kind)
        return lambda given: inner(_canonical(given.lower()))
    if (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file():
        return _from_file(folder, config, kind)
    return partial(_clip, *_vocabulary(checkpoint))


def _without_separators(inner: Tokens, clean: str) -> Tokens:
    """open_clip 3.3, tokenizer.py, HFTokenizer: 0 for every separator, which ends a text too."""
    [_, separator] = inner("")

    def tokens(given: str) -> list[int]:
        ids = inner(_open_clip_clean(given, clean))
        return [0 if number == separator else number for number in ids]

    return tokens


def _from_file(folder: Path, config: dict[str, Any], kind: str) -> Tokens:
    if not (folder / "tokenizer.json").is_file():
        lines = (folder / "vocab.txt").read_text("utf-8").split("\n")
        return word_pieces({line: number for number, line in enumerate(lines)}, config)
    if kind in ("", "BertTokenizer", "DistilBertTokenizer"):
        whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        if (whole["normalizer"] or {}).get("type") == "BertNormalizer":
            return word_pieces(whole["model"]["vocab"], config)
    file = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    file.no_padding()
    file.no_truncation()
    if type(file.pre_tokenizer).__name__ == "ByteLevel":
        file.pre_tokenizer.add_prefix_space = config.get("add_prefix_space", False)
    if kind == "NllbTokenizer":
        numbers = file.get_vocab()
        language, last = numbers[config.get("src_lang") or "eng_Latn"], numbers["</s>"]
        return lambda text: [language, *file.encode(text, add_special_tokens=False).ids, last]
    gemma = kind in ("GemmaTokenizer", "Siglip2Tokenizer")
    if not gemma and kind != "TokenizersBackend":
        return lambda text: file.encode(text).ids
    lower = config.get("do_lower_case", kind == "Siglip2Tokenizer")
    framed = "add_bos_token" in config or "add_eos_token" in config
    if not gemma or ("backend" in config and not framed):
        return lambda text: file.encode(_lower(text) if lower else text).ids

    def number(name: str) -> Any:
        return file.token_to_id(_named(config.get(f"{name}_token", f"<{name}>")))

    first = [number("bos")] if config.get("add_bos_token", True) else []
    end = [number("eos")] if config.get("add_eos_token", False) else []

    def tokens(text: str) -> list[int]:
        text = _lower(text) if lower else text
        return [*first, *file.encode(text, add_special_tokens=False).ids, *end]

    return tokens


def _siglip(path: Path, config: dict[str, Any]) -> Tokens:
    """As transformers 4.57 does, tokenization_siglip.py and tokenization_utils.py."""
    model = Unigram(path)
    end, pad, unknown = (
        _named(config.get(f"{name}_token", usual))
        for name, usual in (("eos", "</s>"), ("pad", "</s>"), ("unk", "<unk>"))
    )
    special = {end, pad, unknown}
    cut = re.compile(f"({'|'.join(re.escape(token) for token in sorted(special))})")
    lower = config.get("do_lower_case", True)
    prefix = len(model.encode(unknown))

    def tokens(text: str) -> list[int]:
        parts = cut.split("▁" + text.replace("▁", " "))
        ids: list[int] = []
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(model.numbers[part])
                continue
            if index:
                part = part.lstrip()
            if index < len(parts) - 1:
                part = part.rstrip()
            if not part or (part == "▁" and len(parts) > 1):
                continue
            part = _canonical(_lower(part) if lower else part)
            ids += model.encode(unknown + part)[prefix:]
        return ids if ids[-1:] == [model.numbers[end]] else [*ids, model.numbers[end]]

    return tokens


def _canonical(text: str) -> str:
    bare = "".join(letter for letter in text if letter not in string.punctuation)
    return re.sub(r"\s+", " ", bare).strip()


def _lower(text: str) -> str:
    """Letter by letter, so that a sigma at a word's end is one as elsewhere."""
    return "".join(map(str.lower, text))


def _open_clip_clean(text: str, clean: str) -> str:
    """open_clip 3.3, tokenizer.py, get_clean_fn."""
    try:
        import ftfy
    except ImportError:  # the runtime says so
        pass
    else:
        text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text)).strip()
    if clean == "canonicalize":
        return " ".join(_canonical(text.replace("_", " ")).lower().split())
    text = " ".join(text.split())
    return text.lower() if clean == "lower" else text


def _vocabulary(checkpoint: Checkpoint) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """CLIP's tokens, and its merges by their rank."""
    whole = checkpoint.json("tokenizer.json")
    if whole is not None:
        lines, vocab = whole["model"]["merges"], whole["model"]["vocab"]
    else:
        lines = (checkpoint.folder / "merges.txt").read_text("utf-8").splitlines()[1:]
        vocab = checkpoint.json("vocab.json") or {}
    pairs = [line.split() if isinstance(line, str) else line for line in lines]
    return vocab, {(pair[0], pair[1]): rank for rank, pair in enumerate(pairs) if len(pair) == 2}


def _clip(vocab: dict[str, int], ranks: dict[tuple[str, str], int], text: str) -> list[int]:
    """As transformers 4.57 does, CLIPTokenizerFast."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    text = _lower(unicodedata.normalize("NFC", text))
    words: list[str] = []
    for part in re.split(f"({re.escape(start)}|{re.escape(end)})", text):
        words += [part] if part in (start, end) else _words(part, ())
    ids = [vocab[start]]
    for word in words:
        ids += [vocab[word]] if word in (start, end) else _merged(vocab, ranks, word)
    return [*ids, vocab[end]]


def _openai(checkpoint: Checkpoint) -> Tokens:
    """open_clip 3.3, tokenizer.py, SimpleTokenizer."""
    vocab, ranks = _vocabulary(checkpoint)
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    special = {"<start_of_text>": start, "<end_of_text>": end}

    def tokens(text: str) -> list[int]:
        ids = [start]
        for word in _words(text, tuple(special)):
            ids += [special[word]] if word in special else _merged(vocab, ranks, word)
        return [*ids, end]

    return tokens


_ENDS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def _words(text: str, special: tuple[str, ...]) -> list[str]:
    """Special tokens, contractions, runs of letters, single digits, runs of what is neither."""
    found, place = [], 0
    while place < len(text):
        ahead = text[place : place + 3].lower()
        named = next((w for w in special if text.startswith(w, place)), None)
        named = named or next((w for w in _ENDS if ahead.startswith(w)), None)
        kind, end = _kind(text[place]), place + 1
        if named:
            end = place + len(named)
        elif kind in "LO":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if named or kind != "S":
            found.append(text[place:end])
        place = end
    return found


def _kind(letter: str) -> str:
    """L for a letter, N for a digit, S for a space, O for all else."""
    if letter.isspace() and letter not in "\x1c\x1d\x1e\x1f":
        return "S"
    category = unicodedata.category(letter)[0]
    return category if category in "LN" else "O"


def _merged(vocab: dict[str, int], ranks: dict[tuple[str, str], int], word: str) -> list[int]:
    """Byte-level BPE of a word (openai/CLIP, simple_tokenizer.py)."""
    parts = [_BYTES[byte] for byte in word.encode()]
    parts[-1] += "</w>"
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        merged: list[str] = []
        for part in parts:
            if merged and (merged[-1], part) == best and not merged[-1].startswith("\0"):
                merged[-1] = "\0" + merged[-1] + part
            else:
                merged.append(part)
        parts = [part.removeprefix("\0") for part in merged]
    return [vocab.get(part, vocab["<|endoftext|>"]) for part in parts]


def _letters_of_bytes() -> list[str]:
    """GPT-2's: bytes that can be shown are their own letter, the others are moved up."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte if byte in shown else next(moved)) for byte in range(256)]


_BYTES = _letters_of_bytes()


def _named(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
