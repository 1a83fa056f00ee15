"""CLIPA's texts in OpenCLIP's folders: BERT's tokens, padding in the place of its separator.

Li, Wang and Xie 2023, "An Inverse Scaling Law for CLIP Training". Its pictures need no layout of
their own.
"""

from dataclasses import replace

import tokenizers
from tokenizers.processors import TemplateProcessing

from bareclip.bundle import CleanUp, TextRecipe
from bareclip.errors import short

from ..bert_tokenizer import read_bert_tokenizer
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from .open_clip_config import OpenClipConfig, text_pooling

# open_clip 3.3, tokenizer.py, HFTokenizer: whichever token is the separator becomes token 0.
SETTING = "strip_sep_token"
_SEPARATOR, _PADDING, _PADDING_ID = "[SEP]", "[PAD]", 0


def asks(config: OpenClipConfig) -> bool:
    """Whether texts have padding for their separator."""
    return bool((config.text["tokenizer_kwargs"] or {}).get(SETTING))


def read_tokenizer(
    checkpoint: Checkpoint, config: OpenClipConfig, clean_up: tuple[CleanUp, ...]
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """Reads BERT's tokenizer.

    Raises:
        CheckpointError: None, or damaged, or its texts have another frame than BERT's or CLIPA's;
            or the tower does not pool the last token of texts of one length.
    """
    text = config.text
    if text["hf_tokenizer_name"] is None or text_pooling(config) != "last":
        raise CheckpointError(
            f"{config.where} has {SETTING} with the tokenizer {short(text['hf_tokenizer_name'])} "
            f"and pool_type {short(text['pool_type'])}; we author it with one of BERT's, and 'last'"
        )
    if not any((checkpoint.folder / n).is_file() for n in ("tokenizer.json", "vocab.txt")):
        raise CheckpointError(
            f"{checkpoint.folder} has neither tokenizer.json nor vocab.txt: take either, and "
            f"tokenizer_config.json, from {short(text['hf_tokenizer_name'])[1:-1]}"
        )
    sizes = text["context_length"], text["vocab_size"]
    tokenizer, recipe = read_bert_tokenizer(checkpoint, *sizes, _PADDING_ID)
    frame = tokenizer.encode("")
    named = [
        tokenizer.encode(token, add_special_tokens=False).ids for token in (_SEPARATOR, _PADDING)
    ]
    if len(frame.ids) != 2 or named != [frame.ids[1:], [_PADDING_ID]]:
        raise CheckpointError(
            f"the tokenizer in {checkpoint.folder} puts {short(' '.join(frame.tokens))} around a "
            f"text, and reads {_SEPARATOR} and {_PADDING} as {named}; we author {SETTING} of BERT's"
        )
    first = frame.tokens[0]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {_PADDING}",
        special_tokens=[(first, frame.ids[0]), (_PADDING, _PADDING_ID)],
    )
    return tokenizer, replace(
        recipe, end_id=_PADDING_ID, fixed_length=True, clean_up=(*clean_up, "sep_to_pad")
    )
