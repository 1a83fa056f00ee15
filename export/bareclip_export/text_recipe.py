"""The tokenizer of a checkpoint and how the runtime is to use it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from bareclip.bundle import CleanUp, TextRecipe
from bareclip.errors import BundleError, short
from bareclip.texts.guard import guarded, open_tokenizer

from .checkpoint import Checkpoint
from .clip_bpe import clip_bpe, parse_merges, special_marks
from .errors import CheckpointError
from .sentencepiece_model import read_siglip

# transformers' classes that do what their tokenizer.json says, and nothing before it. Gemma's
# frames a text as its config says.
_PLAIN = (
    "BertTokenizer",
    "CLIPTokenizer",
    "DistilBertTokenizer",
    "GemmaTokenizer",
    "NllbTokenizer",
    "PreTrainedTokenizer",
    "RobertaTokenizer",
    "Siglip2Tokenizer",
    "T5Tokenizer",
    "TokenizersBackend",
    "XLMRobertaTokenizer",
)
# What SiglipTokenizer takes for special, with its defaults: end, padding, unknown.
_SIGLIP_SPECIAL = (("eos_token", "</s>"), ("pad_token", "</s>"), ("unk_token", "<unk>"))
# transformers' classes that frame and fill up a text as Gemma's does.
_GEMMAS = ("GemmaTokenizer", "Siglip2Tokenizer")
# Those whose files may say do_lower_case where tokenizer.json does not do it: transformers 5
# also saves one of them under the name of what runs it.
_LOWERING = (*_GEMMAS, "TokenizersBackend")


def read_tokenizer(
    checkpoint: Checkpoint, context_length: int, vocabulary: int, end_id: int | None
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """CLIP's tokenizer in Hugging Face's form, of a tower that pools the end token.

    Args:
        checkpoint: With tokenizer.json, or vocab.json and merges.txt.
        context_length: Most tokens a text.
        vocabulary: Rows of the token table.
        end_id: What the model pools; None where that is the highest id of a text.

    Raises:
        CheckpointError: No tokenizer, or it is damaged, has ids beyond the token table, or
            ends a text with another token than ``end_id``.
    """
    folder = checkpoint.folder
    if (folder / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(checkpoint)
    else:
        tokenizer = _converted(checkpoint, openai=False)
    end = end_of(tokenizer, folder, vocabulary, fewest=2)
    # Verification could not see this: every text would pool its first token, in both.
    if end_id is not None and end_id != end:
        raise CheckpointError(
            f"config.json of {folder} says texts end with token {end_id}, its "
            f"tokenizer ends them with {end}: set eos_token_id of text_config to {end}"
        )
    # The end token itself fills a batch up: nothing after the first one is looked at,
    # whichever way the end is found.
    return tokenizer, TextRecipe(context_length, end, end, fixed_length=False, clean_up=())


def read_openai_tokenizer(
    checkpoint: Checkpoint,
    context_length: int,
    vocabulary: int,
    clean_up: Sequence[CleanUp],
    fixed_length: bool,
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """CLIP's tokenizer in OpenAI's form, which OpenCLIP has inside its own package.

    Its vocabulary and merges are those of Hugging Face's; texts are cleaned before it, and
    its start and end token go by other names within a text.

    Args:
        checkpoint: With tokenizer.json, or vocab.json and merges.txt.
        context_length: Most tokens a text.
        vocabulary: Rows of the token table.
        clean_up: Steps before it.
        fixed_length: Whether the tower also looks at what pads a text.

    Raises:
        CheckpointError: No tokenizer, or not CLIP's, or damaged, or it does not belong to a
            token table of that many rows.
    """
    tokenizer = _converted(checkpoint, openai=True)
    end = end_of(tokenizer, checkpoint.folder, vocabulary, fewest=2)
    if end != max(tokenizer.get_vocab().values()):
        raise CheckpointError(
            f"the end token {end} of the tokenizer in {checkpoint.folder} is not its highest id, "
            "which the model pools: it is not CLIP's"
        )
    # open_clip fills up with 0, which is a token like others (tokenizer.py, SimpleTokenizer).
    pad = 0 if fixed_length else end
    return tokenizer, TextRecipe(context_length, pad, end, fixed_length, tuple(clean_up))


def read_own_tokenizer(
    checkpoint: Checkpoint,
    context_length: int,
    vocabulary: int,
    clean_up: Sequence[CleanUp],
    fixed_length: bool,
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """A tokenizer that is not CLIP's, as its tokenizer.json and tokenizer_config.json have it.

    Args:
        checkpoint: With tokenizer.json, and what pads a text in tokenizer_config.json.
        context_length: Most tokens a text.
        vocabulary: Rows of the token table.
        clean_up: Steps before it.
        fixed_length: Whether the tower also looks at what pads a text.

    Raises:
        CheckpointError: No tokenizer, or it is damaged, has ids beyond the token table, names
            no padding, or pads on the left.
    """
    path, pieces = (checkpoint.folder / name for name in ("tokenizer.json", "spiece.model"))
    # transformers' SiglipTokenizer reads the latter, whatever else is there.
    if pieces.is_file() and tokenizer_class(checkpoint) == "SiglipTokenizer":
        return _read_siglip(checkpoint, pieces, context_length, vocabulary, fixed_length)
    elif path.is_file():
        tokenizer = load_tokenizer(checkpoint)
    else:
        raise CheckpointError(
            f"{checkpoint.name} has no tokenizer.json; where transformers and sentencepiece are "
            "installed, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes one"
        )
    kind = tokenizer_class(checkpoint)
    if kind in _GEMMAS:
        _frame_as_gemma(tokenizer, checkpoint)
    if kind in _LOWERING and lower_cases(checkpoint):
        lower = tokenizers.normalizers.Lowercase()
        given = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = tokenizers.normalizers.Sequence([lower, *given])
    end = end_of(tokenizer, checkpoint.folder, vocabulary, fewest=1)
    pad = _padding(checkpoint, tokenizer) if fixed_length else end
    recipe = TextRecipe(context_length, pad, end, fixed_length, tuple(clean_up))
    return tokenizer, recipe


def _read_siglip(
    checkpoint: Checkpoint, path: Path, context_length: int, vocabulary: int, fixed_length: bool
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """SigLIP's own: what its class does before SentencePiece is in the tokenizer itself."""
    config = checkpoint.json("tokenizer_config.json") or {}
    names = [_content(config.get(*default)) for default in _SIGLIP_SPECIAL]
    special = list(dict.fromkeys(names))
    tokenizer = read_siglip(path, special, lower_cases(checkpoint))
    end = end_of(tokenizer, checkpoint.folder, vocabulary, fewest=1)
    _check_side(checkpoint)
    pad: int | None = tokenizer.token_to_id(special_marks(len(special))[special.index(names[1])])
    fill = pad if fixed_length and pad is not None else end
    return tokenizer, TextRecipe(context_length, fill, end, fixed_length, ())


def lower_cases(checkpoint: Checkpoint) -> bool:
    """Whether the tokenizer's class lower-cases a text.

    Gemma's does not; but SigLIP 2 was trained on lower-case texts, its tokenizer_config.json
    says so, and transformers 5 reads it (tokenization_siglip2.py).
    """
    given = (checkpoint.json("tokenizer_config.json") or {}).get("do_lower_case")
    usual = tokenizer_class(checkpoint) in ("SiglipTokenizer", "Siglip2Tokenizer")
    if given is not None and type(given) is not bool:
        raise CheckpointError(
            f"{checkpoint.folder}/tokenizer_config.json has do_lower_case {short(given)}, not "
            "true or "
            "false"
        )
    return usual if given is None else given


def load_tokenizer(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    """A tokenizer.json, without the padding and truncation it may ask for.

    Whether it puts a space before a text tokenizer_config.json says, over it: transformers 4.57,
    tokenization_utils_fast.py.

    Raises:
        CheckpointError: It is none.
    """
    folder = checkpoint.folder
    try:
        tokenizer = open_tokenizer(folder / "tokenizer.json")
    except BundleError as error:
        raise CheckpointError(f"cannot read the tokenizer in {folder}: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = checkpoint.json("tokenizer_config.json") or {}
    first = tokenizer.pre_tokenizer
    if isinstance(first, tokenizers.pre_tokenizers.ByteLevel):
        first.add_prefix_space = bool(config.get("add_prefix_space", False))
        tokenizer.pre_tokenizer = first
    return tokenizer


def tokenizer_class(checkpoint: Checkpoint) -> str:
    """The class that transformers takes for the checkpoint's tokenizer, slow and fast alike.

    A file that names none is taken to mean what tokenizer.json does, and nothing before it.

    Raises:
        CheckpointError: One of which it is unknown what it does to a text.
    """
    config = checkpoint.json("tokenizer_config.json") or {}
    named = str(config.get("tokenizer_class") or "PreTrainedTokenizer")
    name = named.removesuffix("Fast")
    if name not in (*_PLAIN, "SiglipTokenizer"):
        raise CheckpointError(
            f"{checkpoint.folder}/tokenizer_config.json has the unknown tokenizer_class "
            f"{short(named)}; known are {', '.join(_PLAIN)} and SiglipTokenizer"
        )
    return name


def _frame_as_gemma(tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint) -> None:
    """Puts around a text what tokenizer_config.json says, whatever tokenizer.json does.

    transformers 4.57, tokenization_gemma_fast.py. What transformers 5 saves says it in
    tokenizer.json alone (tokenization_utils_tokenizers.py).
    """
    config = checkpoint.json("tokenizer_config.json") or {}
    if "backend" in config and not {"add_bos_token", "add_eos_token"} & set(config):
        return
    parts = ["$A"]
    if config.get("add_bos_token", True):
        parts.insert(0, _content(config.get("bos_token", "<bos>")))
    if config.get("add_eos_token", False):
        parts.append(_content(config.get("eos_token", "<eos>")))
    special = [(token, tokenizer.token_to_id(token)) for token in parts if token != "$A"]
    for token, number in special:
        if number is None:
            raise CheckpointError(
                f"{checkpoint.folder}/tokenizer_config.json puts {short(token)} around a text, a "
                "token "
                "that its tokenizer.json does not have"
            )
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=" ".join(parts), special_tokens=special
    )


def _content(token: Any) -> str:
    """A special token as configs write it: a string, or what AddedToken is saved as."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _padding(checkpoint: Checkpoint, tokenizer: tokenizers.Tokenizer) -> int:
    """The id that fills a text up."""
    _check_side(checkpoint)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if token := (checkpoint.json(name) or {}).get("pad_token"):
            content = _content(token)
            pad: int | None = tokenizer.token_to_id(content)
            if pad is not None:
                return pad
            raise CheckpointError(
                f"{checkpoint.folder / name} pads with {short(content)}, a token that its "
                "tokenizer.json does not have"
            )
    raise CheckpointError(
        f"{checkpoint.folder} says nowhere what pads a text: neither tokenizer_config.json nor "
        "special_tokens_map.json has a pad_token"
    )


def _check_side(checkpoint: Checkpoint) -> None:
    config = checkpoint.json("tokenizer_config.json") or {}
    usual = "left" if tokenizer_class(checkpoint) in _GEMMAS else "right"
    if (side := config.get("padding_side", usual)) != "right":
        raise CheckpointError(
            f"{checkpoint.folder}/tokenizer_config.json has padding_side {short(side)}; SigLIP's "
            "texts "
            "are filled up on the right: set it to 'right' if the model was trained so"
        )


def end_of(tokenizer: tokenizers.Tokenizer, folder: Path, vocabulary: int, fewest: int) -> int:
    """The id that ends every text; checks that the tokenizer fits the token table."""
    empty: list[int] = tokenizer.encode("").ids
    if len(empty) < fewest or tokenizer.encode("a").ids[-1] != empty[-1]:
        around = "start and end token around" if fewest == 2 else "end token after"
        raise CheckpointError(f"the tokenizer in {folder} puts no {around} a text")
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary:
        raise CheckpointError(
            f"the tokenizer in {folder} has ids up to {largest}, the model's "
            f"token table {vocabulary} rows: they do not belong together"
        )
    return empty[-1]


def _vocabulary(checkpoint: Checkpoint) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's tokens and merges, from whichever files hold them."""
    model = (checkpoint.json("tokenizer.json") or {}).get("model")
    vocab = checkpoint.json("vocab.json")
    merges_path = checkpoint.folder / "merges.txt"
    if isinstance(model, dict):
        if model.get("type") != "BPE" or model.get("end_of_word_suffix") != "</w>":
            raise CheckpointError(
                f"the tokenizer in {checkpoint.folder} is a {short(model.get('type'))} model with "
                f"the word ending {short(model.get('end_of_word_suffix'))}, not CLIP's; take "
                "tokenizer.json "
                "from openai/clip-vit-large-patch14"
            )
        return _ids(model.get("vocab")), parse_merges(model.get("merges"))
    if vocab is not None and merges_path.is_file():
        lines: list[Any] = merges_path.read_text(encoding="utf-8").splitlines()
        return _ids(vocab), parse_merges(lines)
    raise CheckpointError(
        f"{checkpoint.name} has no tokenizer: neither tokenizer.json nor vocab.json and "
        "merges.txt; take them from the model this one was trained from"
        + (
            ", for CLIP's own from openai/clip-vit-large-patch14"
            if checkpoint.layout == "open_clip"
            else ""
        )
    )


def _ids(vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or any(type(n) is not int or n < 0 for n in vocab.values()):
        raise CheckpointError("its vocabulary is not of tokens and their ids")
    return vocab


def _converted(checkpoint: Checkpoint, openai: bool) -> tokenizers.Tokenizer:
    try:
        with guarded():
            return clip_bpe(*_vocabulary(checkpoint), openai)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.folder}: {error}") from error
    except Exception as error:  # tokenizers raises bare Exception
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"cannot read the tokenizer in {checkpoint.folder}: {reason[:200]}"
        ) from error


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Writes a tokenizer.json that is read soon: merges as words, where none has a space in it."""
    data = json.loads(tokenizer.to_str())
    merges = data["model"].get("merges")
    if merges and not any(" " in part for pair in merges for part in pair):
        data["model"]["merges"] = [" ".join(pair) for pair in merges]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, encoding="utf-8")
