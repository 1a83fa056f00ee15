"""BERT's WordPiece: from a vocab.txt, and set as a checkpoint's tokenizer_config.json says."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from bareclip.errors import short

from .errors import CheckpointError

# transformers 4.57, tokenization_bert_fast.py: what tokenizer_config.json may leave out.
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# How BertNormalizer calls what tokenizer_config.json sets.
_STEPS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_USUAL = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
# A million tokens of ten bytes; LaBSE's has 5 MB.
_LARGEST = 64 << 20


def read_vocabulary(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer of a vocab.txt, a token in each line, as BertTokenizerFast makes it.

    Args:
        path: The file.
        config: What tokenizer_config.json says.

    Raises:
        CheckpointError: It is damaged, or lacks a special token.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise CheckpointError(f"{path} has {size} bytes, more than such a file needs")
        with path.open(encoding="utf-8") as lines:
            vocab = {line.rstrip("\n"): number for number, line in enumerate(lines)}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; download it again") from error
    special = {name: _token(config.get(name) or usual) for name, usual in _SPECIAL.items()}
    if missing := [token for token in special.values() if token not in vocab]:
        raise CheckpointError(
            f"{path} has no token {short(missing[0])}, which tokenizer_config.json asks for: they "
            "do not belong together"
        )
    made = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=special["unk_token"]))
    made.normalizer = normalizers.BertNormalizer(**_set(config, str(path)))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = special["cls_token"], special["sep_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, vocab[token]) for token in (first, last)],
    )
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special.values()])
    return made


def set_normalizer(tokenizer: tokenizers.Tokenizer, config: dict[str, Any], where: str) -> None:
    """Has a tokenizer do what tokenizer_config.json says, whatever its own file does.

    So BertTokenizerFast has it, and nothing where the steps are others than BERT's.

    Raises:
        CheckpointError: What it says is no choice.
    """
    if isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        state = json.loads(tokenizer.normalizer.__getstate__())
        del state["type"]
        tokenizer.normalizer = normalizers.BertNormalizer(**(state | _set(config, where)))


def _set(config: dict[str, Any], where: str) -> dict[str, Any]:
    given = {name: config.get(name, usual) for name, usual in _USUAL.items()}
    for name, value in given.items():
        if type(value) is not bool and (value is not None or _USUAL[name] is not None):
            raise CheckpointError(f"{where} goes by {name} {short(value)}, not true or false")
    return {_STEPS[name]: value for name, value in given.items()}


def _token(token: Any) -> str:
    return str(token.get("content") if isinstance(token, dict) else token)
