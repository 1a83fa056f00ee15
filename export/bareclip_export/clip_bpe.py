"""CLIP's byte-level BPE, from its tokens and merges."""

from collections.abc import Iterable
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from .errors import CheckpointError

# What the start and the end token are called in a checkpoint's files.
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_bpe(
    vocab: dict[str, int], merges: list[tuple[str, str]], start: str, end: str
) -> tokenizers.Tokenizer:
    """The same steps as transformers' converter (convert_slow_tokenizer.py, CLIPConverter).

    Args:
        vocab: Tokens and their ids, start and end token under Hugging Face's names.
        merges: Best first.
        start, end: What those two are to be called within a text.

    Raises:
        CheckpointError: The start or the end token is missing.
    """
    if _START not in vocab or _END not in vocab:
        raise CheckpointError(f"its vocabulary has no {_START} or no {_END}")
    renamed = {_START: start, _END: end}
    vocab = {renamed.get(token, token): number for token, number in vocab.items()}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
    )
    tokenizer.add_special_tokens([start, end])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocab[end]),
        (start, vocab[start]),
        add_prefix_space=False,
        trim_offsets=False,
    )
    return tokenizer


def parse_merges(lines: Iterable[Any]) -> list[tuple[str, str]]:
    """Merges from lines "a b", or from pairs, as newer tokenizer.json files have them."""
    pairs = (line.split(" ") if isinstance(line, str) else line for line in lines)
    return [
        (str(pair[0]), str(pair[1]))
        for pair in pairs
        if len(pair) == 2 and not str(pair[0]).startswith("#version")
    ]
