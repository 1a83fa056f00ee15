"""Token ids of a thousand awkward texts, live against transformers' and open_clip's own tokenizers.

Both readings are held to them: what bundles are made with, and what verifies them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bareclip.texts.tokenizer import Tokenizer
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.layouts.huggingface_config import SIGLIP_TEXT, read_text
from bareclip_export.layouts.huggingface_siglip import tokenizer as read_siglip_tokenizer
from bareclip_export.reference import read_tokens
from bareclip_export.text_recipe import read_openai_tokenizer, read_tokenizer
from tests.seeded.clip import make_tokenizer, write_checkpoint
from tests.seeded.open_clip import write_checkpoint as write_open_clip
from tests.seeded.siglip import write_checkpoint as write_siglip

from .awkward import awkward_texts, with_special_tokens
from .conftest import Corpus
from .open_clip_oracle import import_open_clip, openai_tokenizer
from .test_siglip import SIZES, set_vocabulary
from .trained_tokenizers import train_gemma, train_sentencepiece

transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

TEXTS = [*awkward_texts(1200), *with_special_tokens(600)]
Ids = Callable[[str], list[int]]


def cut(ids: list[int], length: int, pad: int | None) -> list[int]:
    ids = ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
    return ids if pad is None else [*ids, *[pad] * (length - len(ids))]


def same(tokenizer: Tokenizer, own: Ids, wanted: Ids, texts: list[str]) -> None:
    recipe = tokenizer.recipe
    pad = recipe.pad_id if recipe.fixed_length else None
    found = tokenizer.encode(texts, truncate=True)
    rows = [cut(wanted(text), recipe.context_length, pad) for text in texts]
    for reading in (found, [own(text) for text in texts]):
        ids = [cut(row, recipe.context_length, pad) for row in reading]
        wrong = [t for t, row, right in zip(texts, ids, rows, strict=True) if row != right]
        assert not wrong, f"{len(wrong)} of {len(texts)}, such as {wrong[:3]!a}"


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("lower", [True, False])
def test_siglips(tmp_path: Path, corpus: Corpus, byte_fallback: bool, lower: bool) -> None:
    folder = write_siglip(tmp_path / "checkpoint")
    words = [text.lower() for text in corpus.texts]
    path = train_sentencepiece(folder, words, 700, byte_fallback)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"do_lower_case": lower}))
    slow = transformers.SiglipTokenizer(str(path), do_lower_case=lower)
    set_vocabulary(folder, SIZES["tiny"], len(slow))
    checkpoint = Checkpoint.open(str(folder))
    made, recipe = read_siglip_tokenizer(checkpoint, read_text(checkpoint, SIGLIP_TEXT))
    tokenizer = Tokenizer(made, recipe)
    # Without bytes transformers loses an unknown letter after a special token, where ">" is
    # unknown too: it takes both for one, of what it puts before a text to take away again.
    texts = TEXTS if byte_fallback else awkward_texts(1200)
    same(tokenizer, read_tokens(checkpoint), lambda text: slow(text)["input_ids"], texts)
    if byte_fallback:
        distinct = tokenizer.encode(["京都", "北海道", "🐱", "ü", "é", "Ω"], truncate=True)
        assert len({tuple(ids) for ids in distinct}) == 6


def test_siglip_2s_is_lower_cased_as_its_config_says(tmp_path: Path, corpus: Corpus) -> None:
    """As transformers 5 does; 4.57 does not read the setting."""
    folder = write_siglip(tmp_path / "checkpoint")
    rows = train_gemma(folder, corpus.texts, 500, SIZES["tiny"].context, lower=True)
    set_vocabulary(folder, SIZES["tiny"], rows)
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    checkpoint = Checkpoint.open(str(folder))
    made, recipe = read_siglip_tokenizer(checkpoint, read_text(checkpoint, SIGLIP_TEXT))
    tokenizer = Tokenizer(made, recipe)
    assert tokenizer.encode(["Eiffel Tower"], True) == tokenizer.encode(["eiffel tower"], True)

    def wanted(text: str) -> list[int]:
        return fast("".join(map(str.lower, text)))["input_ids"]

    same(tokenizer, read_tokens(checkpoint), wanted, TEXTS)


def test_clips_from_vocabulary_and_merges(tmp_path: Path) -> None:
    folder, model = write_checkpoint(tmp_path / "checkpoint"), make_tokenizer()["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    fast = transformers.CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=10_000
    )
    checkpoint = Checkpoint.open(str(folder))
    tokenizer = Tokenizer(*read_tokenizer(checkpoint, 77, len(model["vocab"]), None))
    same(tokenizer, read_tokens(checkpoint), lambda text: fast(text)["input_ids"], TEXTS)


def test_open_clips(tmp_path: Path) -> None:
    simple = import_open_clip().tokenizer.SimpleTokenizer()
    folder = write_open_clip(tmp_path / "checkpoint", "tiny", tokenizer=openai_tokenizer())
    checkpoint = Checkpoint.open(str(folder))
    steps = ("fix_text", "unescape_html", "collapse_whitespace", "lowercase")
    tokenizer = Tokenizer(*read_openai_tokenizer(checkpoint, 77, 49408, steps, False))
    # U+0345 is a letter where a pattern ignores case, as Python's regex has it and ours has not.
    texts = [text for text in TEXTS if "\u0345" not in text]

    def wanted(text: str) -> list[int]:
        return [simple.sot_token_id, *simple.encode(text), simple.eot_token_id]

    same(tokenizer, read_tokens(checkpoint), wanted, texts)
