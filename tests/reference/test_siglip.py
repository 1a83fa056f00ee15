"""Live against transformers' SiglipModel, its processor, SigLIP's and SigLIP 2's tokenizers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.export import export
from tests.seeded.clip import Sizes
from tests.seeded.siglip import SIZES, config, write_checkpoint
from tests.variants import SHAPES, picture

from .conftest import Corpus
from .test_transformers import AWKWARD, show
from .trained_tokenizers import train_gemma, train_sentencepiece

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]


def set_vocabulary(folder: Path, sizes: Sizes, rows: int) -> None:
    """Gives a checkpoint a token table of that many rows."""
    tensors = load_file(folder / "model.safetensors")
    table = np.random.default_rng(5).standard_normal((rows, sizes.text.width)) / 2
    tensors["text_model.embeddings.token_embedding.weight"] = table.astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(sizes, rows)))


def wanted_texts(model: Any, ids: list[list[int]]) -> np.ndarray:
    with torch.inference_mode():
        rows = [
            model.get_text_features(torch.tensor(ids[i : i + 16])) for i in range(0, len(ids), 16)
        ]
        return torch.nn.functional.normalize(torch.cat(rows)).numpy()


def answers_as_transformers(folder: Path, made: Path, tokenizer: Any, corpus: Corpus) -> None:
    """Pixels and ids identical, vectors within 1e-5."""
    model = transformers.SiglipModel.from_pretrained(folder).eval()
    processor = transformers.SiglipImageProcessor.from_pretrained(folder)
    bundle = export(str(folder), made)
    clip = bareclip.load(made, reading="as_stored")
    for image in [picture(*shape) for shape in SHAPES] + [Image.open(p) for p in corpus.images]:
        given = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
        raw = processor(image.convert("RGB"), input_data_format="channels_last", **given)
        wanted = raw["pixel_values"][0].transpose(1, 2, 0).astype(np.uint8)
        np.testing.assert_array_equal(
            read_pixels(image, bundle.image_recipe(), "as_stored"), wanted
        )
    texts = [*AWKWARD, *corpus.texts]
    assert clip.texts.tokenizer is not None
    recipe = clip.texts.tokenizer.recipe
    context = recipe.context_length
    ids = [
        tokenizer(t, padding="max_length", truncation=True, max_length=context)["input_ids"]
        for t in texts
    ]
    encoded = clip.texts.tokenizer.encode(texts, truncate=True)
    for text, wanted_ids, found in zip(texts, ids, encoded, strict=True):
        assert found + [recipe.pad_id] * (context - len(found)) == wanted_ids, text
    images = [*corpus.images[::6]]
    rows_of = []
    with torch.inference_mode():
        for image in map(Image.open, images):
            given = processor(image.convert("RGB"), return_tensors="pt")
            rows_of.append(model.get_image_features(**given))
    wanted_images = torch.nn.functional.normalize(torch.cat(rows_of)).numpy()
    wanted_vectors = wanted_texts(model, ids[::5])
    found_images, found_texts = clip.embed_images(images), clip.embed_texts(texts[::5])
    show(made, f"{len(images)} images", found_images, wanted_images)
    show(made, f"{len(texts[::5])} texts", found_texts, wanted_vectors)
    np.testing.assert_allclose(found_images, wanted_images, atol=1e-5)
    np.testing.assert_allclose(found_texts, wanted_vectors, atol=1e-5)
    assert bundle.scoring.logit_bias == pytest.approx(model.logit_bias.item())
    assert bundle.scoring.logit_scale == pytest.approx(model.logit_scale.item())


@pytest.mark.parametrize("size", ["tiny", "base-patch16"])
def test_a_siglip_answers_as_transformers(tmp_path: Path, corpus: Corpus, size: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", SIZES[size])
    trained = train_sentencepiece(folder, [t.lower() for t in corpus.texts], 700)
    slow = transformers.SiglipTokenizer(str(trained), model_max_length=SIZES[size].context)
    set_vocabulary(folder, SIZES[size], len(slow))
    answers_as_transformers(folder, tmp_path / size, slow, corpus)


@pytest.mark.parametrize("size", ["tiny", "base-patch32-256"])
def test_a_siglip_2_answers_as_transformers(tmp_path: Path, corpus: Corpus, size: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", SIZES[size])
    rows = train_gemma(folder, corpus.texts, 500, SIZES[size].context)
    set_vocabulary(folder, SIZES[size], rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "GemmaTokenizerFast"
    answers_as_transformers(folder, tmp_path / f"siglip2-{size}", tokenizer, corpus)
