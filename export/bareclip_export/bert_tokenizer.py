"""The tokenizer of a text tower like BERT's or NLLB's: WordPiece, byte-level BPE, SentencePiece."""

from collections.abc import Sequence
from typing import Any

import tokenizers

from bareclip.bundle import CleanUp, TextRecipe
from bareclip.errors import short

from .checkpoint import Checkpoint
from .errors import CheckpointError
from .text_recipe import end_of, load_tokenizer, tokenizer_class
from .wordpiece import read_vocabulary, set_normalizer

# transformers' classes of WordPiece, whose normalisation tokenizer_config.json decides.
_WORDPIECE = ("BertTokenizer", "DistilBertTokenizer")
# What pads a text where a checkpoint does not say: in BERT's classes, and in RoBERTa's.
_PADDING = ("[PAD]", "<pad>")


def read_bert_tokenizer(
    checkpoint: Checkpoint,
    context_length: int,
    vocabulary: int,
    pad_id: int,
    clean_up: Sequence[CleanUp] = (),
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """The tokenizer, from tokenizer.json, or from a vocab.txt alone.

    Args:
        checkpoint: With either.
        context_length: Most tokens a text.
        vocabulary: Rows of the token table.
        pad_id: What the model takes for padding.
        clean_up: Steps before it.

    Raises:
        CheckpointError: No tokenizer, or damaged, or it pads otherwise, or has ids beyond the
            token table.
    """
    folder, kind = checkpoint.folder, tokenizer_class(checkpoint)
    config = checkpoint.json("tokenizer_config.json") or {}
    where = f"{folder}/tokenizer_config.json"
    if (side := config.get("padding_side", "right")) != "right":
        raise CheckpointError(
            f"{where} has padding_side {short(side)}; texts are filled up on the right: set it to "
            "'right' if the model was trained so"
        )
    if (folder / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(checkpoint)
        if kind in _WORDPIECE or "tokenizer_class" not in config:
            set_normalizer(tokenizer, config, where)
        if kind == "NllbTokenizer":
            _frame_as_nllb(tokenizer, config, where)
    elif (folder / "vocab.txt").is_file():
        tokenizer = read_vocabulary(folder / "vocab.txt", config)
    else:
        raise CheckpointError(
            f"{checkpoint.name} has neither tokenizer.json nor vocab.txt; where transformers and "
            "sentencepiece are installed, "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes one"
        )
    token = config.get("pad_token")
    names = [token.get("content") if isinstance(token, dict) else token] if token else _PADDING
    found = (tokenizer.token_to_id(str(name)) for name in names)
    pads = {number for number in found if number is not None}
    if pads != {pad_id}:
        raise CheckpointError(
            f"the tokenizer in {folder} pads with {short(token or names)}, token "
            f"{', '.join(map(str, sorted(pads))) or 'of none'}, the model with {pad_id}: they do "
            "not belong together"
        )
    end = end_of(tokenizer, folder, vocabulary, fewest=2)
    return tokenizer, TextRecipe(context_length, pad_id, end, False, tuple(clean_up))


def _frame_as_nllb(tokenizer: tokenizers.Tokenizer, config: dict[str, Any], where: str) -> None:
    """Begins a text with its language, whatever tokenizer.json does.

    transformers 4.57, tokenization_nllb_fast.py. Which language is the caller's to say: see
    bareclip/texts/language.py.
    """
    if config.get("legacy_behaviour"):
        raise CheckpointError(
            f"{where} has legacy_behaviour true, which puts a text's language behind it, where the "
            "model pools the first token: set it to false if the model was trained so"
        )
    language, end = str(config.get("src_lang") or "eng_Latn"), "</s>"
    numbers = {token: tokenizer.token_to_id(token) for token in (language, end)}
    if None in numbers.values():
        raise CheckpointError(
            f"{where} puts {short(language)} before a text and {end} behind it, which its "
            "tokenizer.json does not both have"
        )
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{language} $A {end}", special_tokens=list(numbers.items())
    )


def most_tokens(checkpoint: Checkpoint, context_length: int) -> int:
    """Where transformers cuts a text of a model that takes so many tokens."""
    given = (checkpoint.json("tokenizer_config.json") or {}).get("model_max_length")
    return given if type(given) is int and 2 < given < context_length else context_length
