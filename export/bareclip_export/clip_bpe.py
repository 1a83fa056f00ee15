"""CLIP's byte-level BPE, from its tokens and merges."""

from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from .errors import CheckpointError

# What the start and the end token are called in a checkpoint's files.
_START, _END = "<|startoftext|>", "<|endoftext|>"


def special_marks(count: int) -> list[str]:
    """Letters that no text has, to stand for special tokens within one (Unicode 23.7)."""
    return [chr(0xFFFFF - index) for index in range(count)]


def clip_bpe(
    vocab: dict[str, int], merges: list[tuple[str, str]], openai: bool
) -> tokenizers.Tokenizer:
    """The same steps as transformers' converter (convert_slow_tokenizer.py, CLIPConverter).

    Args:
        vocab: Tokens and their ids, start and end token under Hugging Face's names.
        merges: Best first.
        openai: Whether special tokens within a text are those of OpenAI's tokenizer, as
            open_clip has it, and texts are as its clean-up left them.

    Raises:
        CheckpointError: The start or the end token is missing.
    """
    if _START not in vocab or _END not in vocab:
        raise CheckpointError(f"its vocabulary has no {_START} or no {_END}")
    start, end = special_marks(2) if openai else (_START, _END)
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
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    if openai:
        steps = [spaces, *_openai_specials(start, end)]
    else:
        steps = [normalizers.NFC(), spaces, normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    # After lower-casing: <|EndOfText|> is one too.
    tokenizer.add_special_tokens([AddedToken(token, normalized=True) for token in (start, end)])
    # OpenAI's pattern ignores case, which matters where its clean-up leaves capitals.
    ends = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    pattern = Regex(ends + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not openai),
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


def _openai_specials(start: str, end: str) -> list[normalizers.Normalizer]:
    """Special tokens where OpenAI's pattern finds them.

    It takes them for such at the beginning of a word (open_clip 3.3, tokenizer.py):
    punctuation before one is a word together with its first letter. One directly after another
    is found in the next turn.
    """
    names = {"<start_of_text>": start, "<end_of_text>": end}
    return [
        normalizers.Replace(Regex(rf"(?<![^\s\p{{L}}\p{{N}}{start}{end}]){name}"), mark)
        for _ in range(4)
        for name, mark in names.items()
    ]


def parse_merges(lines: Any) -> list[tuple[str, str]]:
    """Merges from lines "a b", or from pairs, as newer tokenizer.json files have them.

    Raises:
        CheckpointError: They are something else.
    """
    if not isinstance(lines, list) or not all(isinstance(line, (str, list)) for line in lines):
        raise CheckpointError("its merges are not lines or pairs")
    pairs = (line.split(" ") if isinstance(line, str) else line for line in lines)
    return [
        (str(pair[0]), str(pair[1]))
        for pair in pairs
        if len(pair) == 2 and not str(pair[0]).startswith("#version")
    ]
