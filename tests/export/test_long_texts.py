"""Long texts are cut before they are tokenized, and the ids kept are those of the whole text."""

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from bareclip import BundleError, TextError
from bareclip.bundle import Bundle, TextRecipe
from bareclip.texts import tokenizer as module
from bareclip.texts.tokenizer import Tokenizer
from bareclip_export.clip_bpe import clip_bpe, parse_merges
from bareclip_export.sentencepiece_model import read_siglip
from tests.export.test_sentencepiece_model import END, model
from tests.seeded.clip import make_tokenizer

CONTEXT = 24


def siglip(folder: Path) -> tokenizers.Tokenizer:
    (folder / "spiece.model").write_bytes(model(fallback=True))
    return read_siglip(folder / "spiece.model", END, lower=True)


def clip(folder: Path) -> tokenizers.Tokenizer:
    made = make_tokenizer()["model"]
    return clip_bpe(made["vocab"], parse_merges(made["merges"]), openai=False)


def openai(folder: Path) -> tokenizers.Tokenizer:
    made = make_tokenizer()["model"]
    return clip_bpe(made["vocab"], parse_merges(made["merges"]), openai=True)


def gemma(folder: Path) -> tokenizers.Tokenizer:
    """A whole text is one word, and its merges reach over spaces."""
    made = make_tokenizer()["model"]
    vocab, merges = dict(made["vocab"]), [tuple(pair) for pair in made["merges"]]
    for pair in (("a", "▁"), ("▁", "a"), ("a▁", "a▁"), ("▁", "▁"), ("▁▁", "▁▁")):
        for part in (*pair, "".join(pair)):
            vocab.setdefault(part, len(vocab))
        merges.append(pair)
    merges = [pair for pair in merges if "".join(pair) in vocab]
    bpe = tokenizers.models.BPE(vocab, merges, unk_token="<|endoftext|>", fuse_unk=True)
    made_of_one = tokenizers.Tokenizer(bpe)
    made_of_one.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    end = "<|endoftext|>"
    made_of_one.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, vocab[end])]
    )
    return made_of_one


BASIC = ("fix_text", "unescape_html", "collapse_whitespace", "lowercase")
KINDS: dict[str, tuple[Callable[[Path], tokenizers.Tokenizer], tuple[Any, ...]]] = {
    "clip": (clip, ()),
    "openai": (openai, BASIC),
    "siglip": (siglip, ()),
    "gemma": (gemma, ()),
    "canonical": (siglip, ("underscores_to_spaces", "remove_punctuation", "collapse_whitespace")),
}


def hard_texts() -> list[str]:
    """Of some thousands of letters: no spaces, marks, emoji, what clean-up makes short."""
    rng = random.Random(0)
    units = (
        "cat ", "x", "a ", "ab", "a▁", "  ", " \n", "京都", "é",
        "e\u0301", "\u0301", "🐱", "👩‍👩‍👧",
        "&amp;", "&amp;amp;", "&#0000065;", "_", "!?", ".", "Σ", "\u1112\u1161\u11ab", "か\u3099",
        "\u200b", "\u00a0", "<|endoftext|>", "<end_of_text>", "</s>",
        "Ã©", "it's", "9", "\U000e0001",
    )  # fmt: skip
    pure = [unit * (6000 // len(unit)) for unit in units]
    after = [f"a cat {text}" for text in pure] + [f"{text} a cat" for text in pure]
    mixed = [
        "".join(rng.choice(units) * rng.choice((1, 1, 3, 40)) for _ in range(400))
        for _ in range(30)
    ]
    return [*pure, *after, *mixed]


def characters_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """To which the lengths of all texts that are tokenized from now on are added."""
    seen: list[int] = []
    encoded = module._encoded

    def counted(made: tokenizers.Tokenizer, given: Any) -> Any:
        seen.extend(map(len, given))
        return encoded(made, given)

    monkeypatch.setattr(module, "_encoded", counted)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_of_a_cut_text_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make, steps = KINDS[kind]
    recipe = TextRecipe(CONTEXT, 0, 0, fixed_length=False, clean_up=steps)
    texts = hard_texts()
    seen = characters_seen(monkeypatch)
    cut = Tokenizer(make(tmp_path), recipe).encode(texts, truncate=True)
    assert min(seen[1:]) < 1000 < 5000 < max(map(len, texts))
    monkeypatch.setattr(module, "_LETTERS", 10**6)
    whole = Tokenizer(make(tmp_path), recipe).encode(texts, truncate=True)
    wrong = [ascii(t[:40]) for t, a, b in zip(texts, cut, whole, strict=True) if a != b]
    assert not wrong


@pytest.mark.parametrize("steps", [(), BASIC])
def test_twenty_megabytes_cost_no_more_than_their_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[Any, ...]
) -> None:
    recipe = TextRecipe(CONTEXT, 0, 0, fixed_length=False, clean_up=steps)
    tokenizer = Tokenizer(clip(tmp_path), recipe)
    seen = characters_seen(monkeypatch)
    [ids] = tokenizer.encode(["a cat " * 3_500_000], truncate=True)
    assert len(ids) == CONTEXT
    assert sum(seen) < 10_000
    with pytest.raises(TextError, match="has more than [0-9]+ tokens; this model takes 24"):
        tokenizer.encode(["a cat " * 3_500_000], truncate=False)


def test_a_million_letters_without_tokens_are_an_error(tmp_path: Path) -> None:
    recipe = TextRecipe(CONTEXT, 0, 0, fixed_length=False, clean_up=())
    tokenizer = Tokenizer(clip(tmp_path), recipe)
    ids, errors = tokenizer.try_encode([" " * 1_500_000 + "a cat", "a cat"], truncate=True)
    assert len(ids) == 1
    assert "has 1500005 letters, the first 1000000 of which are 2 tokens; cut it" in str(errors[0])


@pytest.fixture
def folder(bundles: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_bytes((bundles["tiny"] / "tokenizer.json").read_bytes())
    return tmp_path


def load(folder: Path, bundles: dict[str, Path], **changes: Any) -> Tokenizer:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(data), encoding="utf-8")
    return Tokenizer.load(path, Bundle.read(bundles["tiny"]).text_recipe())


def replaced(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


DOUBLED = replaced({"String": "a"}, "aa")
STEPS = {
    "letters": {"type": "Sequence", "normalizers": [DOUBLED] * 40},
    "patterns": {"type": "Sequence", "normalizers": [replaced({"Regex": "(?=.)"}, "b")] * 40},
    "nested": {"type": "Sequence", "normalizers": [
        {"type": "Sequence", "normalizers": [DOUBLED] * 20}] * 2},
    "many": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}] * 100},
    "at once": replaced({"String": "a"}, "a" * 10**6),
    "before": {"type": "Prepend", "prepend": "a" * 10**6},
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_tokenizer_that_makes_much_of_a_little_is_refused(
    folder: Path, bundles: dict[str, Path], name: str
) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json is refused: (its|it changes|a step)"):
        load(folder, bundles, normalizer=STEPS[name])


def test_words_that_are_doubled_are_refused(folder: Path, bundles: dict[str, Path]) -> None:
    step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
    with pytest.raises(BundleError, match=r"tokenizer\.json is refused"):
        load(folder, bundles, pre_tokenizer={"type": "Sequence", "pretokenizers": [step] * 60})


def framed(count: int) -> dict[str, Any]:
    token = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, *[token] * count],
        "pair": [],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [5], "tokens": ["<|endoftext|>"]}
        },
    }


@pytest.mark.parametrize("count", [0, 24, 100])
def test_a_frame_that_leaves_no_room_is_refused(
    folder: Path, bundles: dict[str, Path], count: int
) -> None:
    message = rf"tokenizer\.json: its tokenizer puts {count} tokens around a text, where this model"
    with pytest.raises(BundleError, match=message):
        load(folder, bundles, post_processor=framed(count))
    assert load(folder, bundles, post_processor=framed(23)).encode(["a cat"], True)


def test_a_panic_is_an_error(folder: Path, bundles: dict[str, Path]) -> None:
    """A normalisation that ends in the middle; pyo3 raises what no except Exception catches."""
    import base64

    for charsmap in (
        b"\x04\0\0\0abcd",
        b"\xff\xff\xff\x7f",
        b"\x08\0\0\0\xff\xff\xff\xff\0\1\0\0x",
    ):
        step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
        with contextlib.suppress(BundleError):
            load(folder, bundles, normalizer=step).encode(["a cat", "ü"], truncate=True)


def test_damaged_tokenizers_are_refused_or_read(folder: Path, bundles: dict[str, Path]) -> None:
    from tests.export.fuzzing import COUNT, odd

    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["model"] = make_tokenizer()["model"]
    recipe = replace(Bundle.read(bundles["tiny"]).text_recipe(), context_length=8)
    for data in odd(whole, seed=13, count=COUNT // 4):
        path.write_text(json.dumps(data), encoding="utf-8")
        with contextlib.suppress(BundleError):
            Tokenizer.load(path, recipe).encode(["a cat", "<|endoftext|> ü"], truncate=True)
