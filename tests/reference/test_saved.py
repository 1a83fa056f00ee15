"""What transformers saves, of whichever version is installed: 4.57 and 5 write other files.

Each checkpoint is loaded, saved and asked by that version's own classes, and exported from what it
saved. `.ci/run` runs this with both.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.export import export
from bareclip_export.layouts import read_model
from tests.seeded import siglip
from tests.seeded.clip import SIZES, Sizes, Tower, write_checkpoint
from tests.seeded.open_clip import write_checkpoint as write_open_clip
from tests.variants import SHAPES, picture

from .awkward import awkward_texts
from .conftest import Corpus
from .test_siglip import set_vocabulary
from .trained_tokenizers import train_gemma, train_sentencepiece, train_xlm_roberta

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

FIVE = int(transformers.__version__.partition(".")[0]) >= 5
ACTIVATIONS = [
    "gelu", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "quick_gelu",
]  # fmt: skip
LANGUAGES = [
    "고양이 두 마리가 해변을 달린다", "一只猫 和 一只狗", "海辺を走る2匹の犬。", "قطة على الشاطئ",
    "ΟΔΥΣΣΕΥΣ", "👩‍👩‍👧 🏳️‍🌈 🐱", "Two HAPPY dogs\t run\n -- 100% blue; it's a sunset!", "",
]  # fmt: skip
TEXTS = [*LANGUAGES, *awkward_texts(300), "cat " * 90]


def pil_processor(kind: str, **given: Any) -> Any:
    """The processor that resizes with Pillow, as both versions have it."""
    return getattr(transformers, f"{kind}ImageProcessor{'Pil' if FIVE else ''}")(**given)


def unit(output: Any) -> NDArray[np.float32]:
    """Features as rows of length 1; transformers 5 puts them into an object."""
    rows = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(rows).numpy()


def images(corpus: Corpus) -> Iterator[Image.Image]:
    yield from (picture(*shape) for shape in SHAPES)
    yield from (Image.open(path).convert("RGB") for path in corpus.images[::20])


def answers_as_transformers(
    folder: Path,
    made: Path,
    corpus: Corpus,
    processor: Any,
    tokenizer: Any,
    fixed: bool,
    texts: list[str] = TEXTS,
) -> bareclip.Clip:
    """Exports what was saved: pixels and ids identical, vectors within 1e-5 of its own."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    bundle = export(str(folder), made)
    clip = bareclip.load(made, reading="as_stored")
    given = {"return_tensors": "pt", "input_data_format": "channels_last"}
    seen, wanted = [*images(corpus)], []
    for image in seen:
        raw = processor(image, do_rescale=False, do_normalize=False, **given)["pixel_values"]
        pixels = raw[0].permute(1, 2, 0).numpy().astype(np.uint8)
        np.testing.assert_array_equal(
            read_pixels(image, bundle.image_recipe(), "as_stored"), pixels
        )
        with torch.inference_mode():
            wanted.append(unit(model.get_image_features(**processor(image, **given))))
    np.testing.assert_allclose(clip.embed_images(seen), np.concatenate(wanted), atol=1e-5)
    assert clip.texts.tokenizer is not None
    context = clip.texts.tokenizer.recipe.context_length
    pad = {"padding": "max_length"} if fixed else {}
    rows = [
        tokenizer(text, truncation=True, max_length=context, **pad)["input_ids"] for text in texts
    ]
    found = clip.texts.tokenizer.encode(texts, truncate=True)
    for text, ids, row in zip(texts, found, rows, strict=True):
        filled = ids + [clip.texts.tokenizer.recipe.pad_id] * (context - len(ids)) * fixed
        assert filled == row, text
    some = range(0, len(texts), 7)
    with torch.inference_mode():
        vectors = [unit(model.get_text_features(torch.tensor([rows[i]]))) for i in some]
    embedded = clip.embed_texts([texts[i] for i in some])
    np.testing.assert_allclose(embedded, np.concatenate(vectors), atol=1e-5)
    assert bundle.scoring.logit_scale == pytest.approx(model.logit_scale.item())
    return clip


def save_again(folder: Path, kind: str, processor: Any, tokenizer: Any) -> Path:
    """Loads a seeded checkpoint's weights, and saves all of it as this version does."""
    saved = folder.parent / "saved"
    getattr(transformers, kind).from_pretrained(folder).save_pretrained(saved)
    processor.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    return saved


GEMMAS = ["GemmaTokenizer", "Siglip2Tokenizer", "TokenizersBackend"] if FIVE else ["AutoTokenizer"]


def gemma(folder: Path, kind: str) -> Any:
    """SigLIP 2's tokenizer as one of the classes that it may be saved by."""
    given = getattr(transformers, kind, None)
    if given is None:
        given = transformers.tokenization_utils_tokenizers.TokenizersBackend
    return given.from_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "size"),
    [*((kind, "tiny") for kind in GEMMAS), *([(GEMMAS[-1], "base-patch32-256")] if FIVE else [])],
)
def test_a_siglip_2(tmp_path: Path, corpus: Corpus, kind: str, size: str) -> None:
    sizes = siglip.SIZES[size]
    folder = siglip.write_checkpoint(tmp_path / "checkpoint", sizes)
    train_gemma(folder, corpus.texts, 500, sizes.context, frame="$A <eos>")
    # transformers 5 adds a <mask>, which Google's has.
    set_vocabulary(folder, sizes, len(gemma(folder, kind)))
    side = {"height": sizes.image, "width": sizes.image}
    processor, tokenizer = pil_processor("Siglip", size=side), gemma(folder, kind)
    saved = save_again(folder, "SiglipModel", processor, tokenizer)
    written = json.loads((saved / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == (kind if FIVE else "GemmaTokenizerFast")
    assert ("add_eos_token" in written) != FIVE
    answers_as_transformers(saved, tmp_path / "bundle", corpus, processor, tokenizer, fixed=True)


@pytest.mark.parametrize("layout", ["huggingface", "open_clip"])
def test_all_forms_of_a_siglip_2s_tokenizer_are_one(
    tmp_path: Path, corpus: Corpus, layout: str
) -> None:
    """Where its config says that texts are lower-cased, as it was trained."""
    found = []
    for kind in GEMMAS:
        folder = tmp_path / kind
        if layout == "open_clip":
            write_open_clip(folder, "tiny-last")
        else:
            siglip.write_checkpoint(folder)
        train_gemma(folder, corpus.texts, 300, 16, lower=True, frame="$A <eos>")
        gemma(folder, kind).save_pretrained(folder)
        grow_table(folder, layout, 2000)
        text = read_model(Checkpoint.open(str(folder))).text
        assert text is not None
        tokenizer = bareclip.texts.tokenizer.Tokenizer(text.tokenizer, text.recipe)
        found.append(tokenizer.encode(TEXTS, truncate=True))
        lower = [text.lower() for text in corpus.texts[:50]]
        assert tokenizer.encode(lower, True) == tokenizer.encode(corpus.texts[:50], True)
        if layout == "huggingface":
            given = gemma(folder, kind)
            assert tokenizer.encode(lower, True) == [
                given(t, truncation=True, max_length=16)["input_ids"] for t in lower
            ]
    assert all(ids == found[0] for ids in found)


def grow_table(folder: Path, layout: str, rows: int) -> None:
    """More tokens than the tokenizer has, which is no fault."""
    hugging = layout == "huggingface"
    weights = folder / ("model.safetensors" if hugging else "open_clip_model.safetensors")
    name = f"{'text_model.embeddings.' if hugging else ''}token_embedding.weight"
    tensors = load_file(weights)
    tensors[name] = np.zeros((rows, tensors[name].shape[1]), np.float32)
    save_file(tensors, weights)
    path = folder / ("config.json" if hugging else "open_clip_config.json")
    config = json.loads(path.read_text())
    section = config["text_config"] if hugging else config["model_cfg"]["text_cfg"]
    section["vocab_size"] = rows
    path.write_text(json.dumps(config))


def test_a_siglip(tmp_path: Path, corpus: Corpus) -> None:
    folder = siglip.write_checkpoint(tmp_path / "checkpoint")
    sizes = siglip.SIZES["tiny"]
    trained = train_sentencepiece(folder, [t.lower() for t in corpus.texts], 700)
    tokenizer = transformers.SiglipTokenizer(str(trained), model_max_length=sizes.context)
    set_vocabulary(folder, sizes, len(tokenizer))
    processor = pil_processor("Siglip", size={"height": sizes.image, "width": sizes.image})
    saved = save_again(folder, "SiglipModel", processor, tokenizer)
    # Of whole texts, transformers 5 takes a sigma at a word's end for another letter.
    texts = [text for text in TEXTS if text.lower() == "".join(map(str.lower, text))]
    made = tmp_path / "bundle"
    answers_as_transformers(saved, made, corpus, processor, tokenizer, True, texts)


METACLIP_2 = {
    "tiny": replace(SIZES["tiny"], activation="gelu"),
    "ViT-B-32": Sizes(
        Tower(768, 3072, 12, 12), 224, 32, Tower(512, 2048, 12, 8), 77, 512, "quick_gelu"
    ),
}


def write_metaclip_2(folder: Path, corpus: Corpus, sizes: Sizes) -> tuple[Path, Any, Any]:
    """As transformers saves one, whose end token is 2."""
    write_checkpoint(folder, replace(sizes, vocabulary=900))
    rows = train_xlm_roberta(folder, corpus.texts, 700, sizes.context)
    assert rows <= 900
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["MetaClip2Model"], "model_type": "metaclip_2"}
    config["text_config"] |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    size = {"height": sizes.image, "width": sizes.image}
    processor = pil_processor("CLIP", size={"shortest_edge": sizes.image}, crop_size=size)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return save_again(folder, "MetaClip2Model", processor, tokenizer), processor, tokenizer


@pytest.mark.parametrize("size", METACLIP_2 if FIVE else ["tiny"])
def test_a_metaclip_2(tmp_path: Path, corpus: Corpus, size: str) -> None:
    folder = tmp_path / "checkpoint"
    saved, processor, tokenizer = write_metaclip_2(folder, corpus, METACLIP_2[size])
    config = json.loads((saved / "config.json").read_text())
    assert config["text_config"]["eos_token_id"] == 2
    made = tmp_path / "bundle"
    clip = answers_as_transformers(saved, made, corpus, processor, tokenizer, fixed=False)
    # CLIP's rule for 2 would pool the highest id's token.
    ids = clip.texts.tokenizer.encode(["a photo of a cat"], True)[0]
    assert ids[-1] == 2 < max(ids)


@pytest.mark.parametrize("tower", ["Vision", "Text"])
def test_a_metaclip_2s_tower_alone(tmp_path: Path, corpus: Corpus, tower: str) -> None:
    saved, processor, tokenizer = write_metaclip_2(
        tmp_path / "checkpoint", corpus, METACLIP_2["tiny"]
    )
    kind = getattr(transformers, f"MetaClip2{tower}ModelWithProjection")
    alone = tmp_path / "alone"
    kind.from_pretrained(saved).save_pretrained(alone)
    processor.save_pretrained(alone)
    tokenizer.save_pretrained(alone)
    export(str(alone), tmp_path / "bundle")
    clip, model = bareclip.load(tmp_path / "bundle"), kind.from_pretrained(alone).eval()
    with torch.inference_mode():
        if tower == "Vision":
            given = processor([picture(97, 61)], return_tensors="pt")
            found, wanted = clip.embed_images([picture(97, 61)]), model(**given).image_embeds
        else:
            given = tokenizer(["a photo of a cat"], return_tensors="pt")
            found, wanted = clip.embed_texts(["a photo of a cat"]), model(**given).text_embeds
    np.testing.assert_allclose(found, unit(wanted), atol=1e-5)


def write_clip(folder: Path, sizes: Sizes = SIZES["tiny"]) -> tuple[Path, Any, Any]:
    write_checkpoint(folder, sizes)
    size = {"height": sizes.image, "width": sizes.image}
    processor = pil_processor("CLIP", size={"shortest_edge": sizes.image}, crop_size=size)
    kind = transformers.CLIPTokenizer if FIVE else transformers.CLIPTokenizerFast
    tokenizer = kind.from_pretrained(folder)
    saved = save_again(folder, "CLIPModel", processor, tokenizer)
    # Both at once, as people do: transformers 5 then writes processor_config.json alone.
    (saved / "preprocessor_config.json").unlink()
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(saved)
    assert (saved / "preprocessor_config.json").exists() != FIVE
    return saved, processor, tokenizer


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_clip_of_every_activation(tmp_path: Path, corpus: Corpus, activation: str) -> None:
    sizes = replace(SIZES["tiny"], activation=activation)
    saved, processor, tokenizer = write_clip(tmp_path / "checkpoint", sizes)
    made = tmp_path / "bundle"
    answers_as_transformers(saved, made, corpus, processor, tokenizer, fixed=False)


@pytest.mark.parametrize("prefix", ["clip.", "model.", "module.model.clip."])
def test_a_clip_that_was_a_part_of_something_else(
    tmp_path: Path, corpus: Corpus, prefix: str
) -> None:
    saved, processor, tokenizer = write_clip(tmp_path / "checkpoint")
    plain = export(str(saved), tmp_path / "plain")
    tensors = load_file(saved / "model.safetensors")
    named = {f"{prefix}{name}": array for name, array in tensors.items()}
    save_file(named | {"head.weight": np.ones(3)}, saved / "model.safetensors")
    assert export(str(saved), tmp_path / "bundle").files() == plain.files()
    if prefix == "clip.":  # which transformers takes to be its own
        made = tmp_path / "again"
        answers_as_transformers(saved, made, corpus, processor, tokenizer, fixed=False)


def test_a_config_with_lists_and_without_architectures(tmp_path: Path) -> None:
    saved, _, _ = write_clip(tmp_path / "checkpoint")
    plain = export(str(saved), tmp_path / "plain")
    config = json.loads((saved / "config.json").read_text())
    del config["architectures"]
    config["vision_config"] |= {"image_size": [32, 32], "patch_size": [8, 8]}
    config["text_config"]["eos_token_id"] = [config["text_config"]["eos_token_id"]]
    (saved / "config.json").write_text(json.dumps(config))
    if FIVE:  # which such a config is valid for
        transformers.AutoConfig.from_pretrained(saved)
    assert export(str(saved), tmp_path / "bundle").files() == plain.files()
