"""Live: texts of models like BERT, by open_clip, transformers and sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.export import export
from bareclip_export.layouts import bert as layout
from tests.seeded import bert
from tests.variants import SHAPES, picture

from .awkward import awkward_texts
from .conftest import Corpus, long
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
    if config["model_type"] == "distilbert":
        return train_word_pieces(folder, texts, 900, lower=False, kind="DistilBert")
    return train_word_pieces(folder, texts, 900, lower=True)


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
FULL = ("xlm-roberta-base-ViT-B-32", "roberta-ViT-B-32", "BiomedCLIP")


@pytest.mark.parametrize("name", [*(name for name in OPEN_CLIP if name not in FULL), *long(*FULL)])
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


@pytest.mark.parametrize("config", [True, False, None])
@pytest.mark.parametrize("file", [True, False])
def test_a_space_before_a_roberta_text(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, file: bool, config: bool | None
) -> None:
    """tokenizer_config.json says whether there is one, whatever tokenizer.json does."""
    folder = tmp_path / "checkpoint"
    sizes = dict(bert.MODELS["roberta"])
    sizes["vocab_size"] = train(folder, sizes, corpus.texts, 77)
    monkeypatch.setitem(bert.MODELS, "roberta", sizes)
    bert.write_open_clip(folder, "roberta")
    whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    whole["pre_tokenizer"]["add_prefix_space"] = file
    (folder / "tokenizer.json").write_text(json.dumps(whole), "utf-8")
    said = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    del said["add_prefix_space"]
    said |= {} if config is None else {"add_prefix_space": config}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    oracle = transformers.AutoTokenizer.from_pretrained(folder, config=transformers.RobertaConfig())
    export(str(folder), tmp_path / "bundle")
    texts = ["cat dog", "dog<mask> cat", *LANGUAGES]
    wanted = [oracle(text, truncation=True, max_length=20)["input_ids"] for text in texts]
    clip = bareclip.load(tmp_path / "bundle")
    same_ids(clip, texts, wanted)


@pytest.mark.parametrize("full", [False, True])
def test_a_chinese_clip(tmp_path: Path, corpus: Corpus, full: bool) -> None:
    """By ``forward``: ``get_text_features`` of 4.57 asks for a pooler that there is none of."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    train_word_pieces(folder, [*corpus.texts, *LANGUAGES * 3], 900, lower=True)
    bert.write_chinese_clip(folder, full)
    model = transformers.ChineseCLIPModel.from_pretrained(folder).eval()
    processor = transformers.ChineseCLIPImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    bundle = export(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle", reading="as_stored")
    context = bundle.text_recipe().context_length
    assert context == (512 if full else 24)
    cut = {"truncation": True, "max_length": context}
    for made in (tokenizer, transformers.BertTokenizer.from_pretrained(folder)):
        same_ids(clip, TEXTS, [made(text, **cut)["input_ids"] for text in TEXTS])
    seen = [picture(*shape) for shape in SHAPES]
    seen += [Image.open(path).convert("RGB") for path in corpus.images[::40]]
    given = {"return_tensors": "pt", "input_data_format": "channels_last"}
    for image in seen:
        raw = processor(image, do_rescale=False, do_normalize=False, **given)["pixel_values"]
        np.testing.assert_array_equal(
            read_pixels(image, bundle.image_recipe(), "as_stored"),
            raw[0].permute(1, 2, 0).numpy().astype(np.uint8),
        )
    some = [*LANGUAGES, *TEXTS[len(LANGUAGES) :: 19]]
    pixels = [processor(image, **given)["pixel_values"] for image in seen]
    with torch.inference_mode():
        texts = tokenizer(some, padding=True, return_tensors="pt", **cut)
        answer = model(**texts, pixel_values=torch.cat(pixels))
    np.testing.assert_allclose(clip.embed_texts(some), answer.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(clip.embed_images(seen), answer.image_embeds.numpy(), atol=1e-5)
    assert bundle.scoring.logit_scale == pytest.approx(model.logit_scale.item())


class MultilingualClip(torch.nn.Module):
    """M-CLIP's own few lines (Carlsson et al. 2022): averaged without padding, one linear layer."""

    def __init__(self, config: dict[str, Any], width: int, out: int) -> None:
        super().__init__()
        kind = transformers.CONFIG_MAPPING[config["model_type"]](**config)
        self.transformer = transformers.AutoModel.from_config(kind, add_pooling_layer=False)
        self.LinearTransformation = torch.nn.Linear(width, out)

    def forward(self, tokens: Any) -> Any:
        states, mask = self.transformer(**tokens)[0], tokens["attention_mask"]
        return self.LinearTransformation((states * mask[..., None]).sum(1) / mask.sum(1)[:, None])


M_CLIPS = ("xlm-roberta-base", "sentence-transformers/LaBSE")


@pytest.mark.parametrize("model", [*M_CLIPS, *long("xlm-roberta-large")])
def test_an_m_clip(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    config = dict(bert.NAMED[model])
    if model in M_CLIPS:
        config |= {"num_hidden_layers": 2, "vocab_size": 1000}
    monkeypatch.setitem(layout.MODELS, model, config)
    folder = tmp_path / "checkpoint"
    train(folder, config, [*corpus.texts, *LANGUAGES * 3], 512)
    bert.write_m_clip(folder, model, config)
    tensors = load_file(folder / "model.safetensors")
    out, width = tensors["LinearTransformation.weight"].shape
    oracle = MultilingualClip(config, width, out).eval()
    oracle.load_state_dict(tensors)
    kind = transformers.CONFIG_MAPPING[config["model_type"]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, config=kind(**config))
    export(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle")
    cut = {"truncation": True, "max_length": 512}
    same_ids(clip, TEXTS, [tokenizer(text, **cut)["input_ids"] for text in TEXTS])
    some = [*LANGUAGES, *TEXTS[len(LANGUAGES) :: 19]]
    with torch.inference_mode():
        rows = oracle(tokenizer(some, padding=True, return_tensors="pt", **cut))
    wanted = torch.nn.functional.normalize(rows).numpy()
    show(tmp_path / model.rpartition("/")[2], f"{len(some)} texts", clip.embed_texts(some), wanted)
    np.testing.assert_allclose(clip.embed_texts(some), wanted, atol=1e-5)


SENTENCES: dict[str, dict[str, Any]] = {
    "distilbert": {},
    "bert": {"pooling": "cls_token"},
    "xlm-roberta": {
        "dense": {"bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    },
    # Of clip-ViT-B-32-multilingual-v1's sizes.
    "distilbert-base-multilingual-cased": {"out": 512},
}


@pytest.mark.parametrize("name", SENTENCES)
def test_sentence_transformers(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind = pytest.importorskip("sentence_transformers").SentenceTransformer
    models = bert.MODELS if name in bert.MODELS else bert.NAMED
    config, folder = dict(models[name]), tmp_path / "checkpoint"
    rows = train(folder, config, [*corpus.texts, *LANGUAGES * 3], 128)
    config["vocab_size"] = max(rows, config.get("vocab_size", 0))
    monkeypatch.setitem(models, name, config)
    bert.write_sentence_bert(folder, name, **SENTENCES[name])
    oracle = kind(str(folder), device="cpu")
    export(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle")
    wanted = [oracle.tokenize([text])["input_ids"][0].tolist() for text in TEXTS]
    same_ids(clip, TEXTS, wanted)
    some = [*LANGUAGES, *TEXTS[len(LANGUAGES) :: 9]]
    rows_of = oracle.encode(some, normalize_embeddings=True)
    show(tmp_path / name, f"{len(some)} texts", clip.embed_texts(some), rows_of)
    np.testing.assert_allclose(clip.embed_texts(some), rows_of, atol=1e-5)
