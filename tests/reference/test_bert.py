"""Live: texts of models like BERT, by open_clip, transformers and sentence-transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip_export.export import export
from tests.seeded import bert

from .awkward import awkward_texts
from .conftest import Corpus
from .open_clip_oracle import OpenClip
from .test_transformers import AWKWARD, show
from .trained_tokenizers import train_pieces, train_roberta, train_word_pieces

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

LANGUAGES = [
    "고양이 두 마리가 해변을 달린다", "한국어", "一只猫和一只狗在海滩上奔跑", "海辺を走る2匹の犬。",
    "قطة وكلب على الشاطئ", "שתי חתולים", "👩‍👩‍👧 🏳️‍🌈 🐱", "Ünïcödé ÀÉÎ", "don't -- stop!!",
    "[SEP] a [PAD] cat [MASK]", "a <pad> cat </s> <mask>dog", "",
]  # fmt: skip
TEXTS = [*LANGUAGES, *AWKWARD, *awkward_texts(400), "cat " * 200]


def train(folder: Path, config: dict[str, Any], texts: list[str], context: int) -> int:
    """A tokenizer of the kind that such a model has; how many tokens."""
    folder.mkdir()
    if config["model_type"] == "roberta":
        return train_roberta(folder, texts, 900)
    if config["model_type"] == "xlm-roberta":
        return train_pieces(folder, texts, 900, context)
    return train_word_pieces(folder, texts, 900, lower=config["model_type"] == "bert")


def know(patch: pytest.MonkeyPatch, model: str, config: dict[str, Any]) -> None:
    """transformers downloads no configuration: it has this one under that name."""
    right = transformers.AutoConfig.from_pretrained

    def from_pretrained(name: Any, *given: Any, **more: Any) -> Any:
        if str(name) == model:
            return transformers.CONFIG_MAPPING[config["model_type"]](**config)
        return right(name, *given, **more)

    patch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)


def same_ids(clip: bareclip.Clip, texts: list[str], wanted: list[list[int]]) -> None:
    """But for what fills a text up."""
    pad = clip.bundle.text_recipe().pad_id
    found = clip.texts.tokenizer.encode(texts, truncate=True)
    for text, ids, row in zip(texts, found, wanted, strict=True):
        assert ids == row[: len(ids)], text
        assert set(row[len(ids) :]) <= {pad}, text


BIOMED = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
POOLED = {"hf_pooler_type": "cls_last_hidden_state_pooler"}
_BIOMED = {**POOLED, "hf_proj_type": "mlp", "context_length": 256, "vision": bert.PLAIN_VIT}
OPEN_CLIP: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta": ("xlm-roberta", {}),
    "roberta": ("roberta", {"hf_proj_type": "linear"}),
    "bert": ("bert", {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}),
    "odd bert": ("odd bert", POOLED),
    "xlm-roberta-base-ViT-B-32": ("xlm-roberta-base", {}),
    "roberta-ViT-B-32": ("roberta-base", {}),
    "BiomedCLIP": (BIOMED, _BIOMED),
}


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_texts_of_open_clips(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, given = OPEN_CLIP[name]
    config = dict(bert.MODELS.get(model) or bert.NAMED[model])
    folder = tmp_path / "checkpoint"
    rows = train(folder, config, [*corpus.texts, *LANGUAGES * 3], 77)
    config["vocab_size"] = max(rows, config.get("vocab_size", 0))
    monkeypatch.setitem(bert.MODELS if model in bert.MODELS else bert.NAMED, model, config)
    bert.write_open_clip(folder, model, **given)
    know(monkeypatch, model, config)
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / name)
    clip = bareclip.load(tmp_path / name, reading="as_stored")
    same_ids(clip, TEXTS, [oracle.ids(text) for text in TEXTS])
    some = [*LANGUAGES, *TEXTS[len(LANGUAGES) :: 9], *corpus.texts[::40]]
    wanted = oracle.embed_texts(some)
    show(tmp_path / name, f"{len(some)} texts", clip.embed_texts(some), wanted)
    np.testing.assert_allclose(clip.embed_texts(some), wanted, atol=1e-5)
    images = [*corpus.images[::20]]
    np.testing.assert_allclose(clip.embed_images(images), oracle.embed_images(images), atol=1e-5)
