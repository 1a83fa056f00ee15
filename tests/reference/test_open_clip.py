"""Live against open_clip 3.3 on the same folders, which it loads by itself and strictly."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.export import export
from tests.seeded.open_clip import CONFIGS, write_checkpoint
from tests.variants import SHAPES, picture

from .conftest import Corpus, long
from .open_clip_oracle import OpenClip, openai_tokenizer
from .test_transformers import AWKWARD, show
from .trained_tokenizers import train_gemma

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

SIGLIP = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
# Between them: both roundings of the crop are seen, both interpolations, both ways to resize.
PREPROCESS = {
    "tiny": {"resize_mode": "squash", "interpolation": "bilinear"},
    "tiny-quickgelu": {
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "mean": [0.1, 0.5, 1],
    },
    "ViT-B-16-SigLIP": SIGLIP,
    "ViT-B-32-SigLIP2-256": SIGLIP,
}
# timm has none of the small trunks; test_convolutional.py gives it some.
SMALL = [
    name
    for name, config in CONFIGS.items()
    if name.startswith("tiny") and "timm_model_name" not in config["vision_cfg"]
]
MARKUP = ["a <end_of_text> inside <START_OF_TEXT>", "&amp;lt;b&amp;gt; snake_case, (odd)", "ÃƒÂ©"]


FULL = ["ViT-B-32", "RN50", "ViT-B-32-SigLIP2-256"]
LONG = ["RN101", "RN50x4", "ViT-B-16-SigLIP"]  # minutes; of kinds that the others are of


@pytest.mark.parametrize("name", [*SMALL, *FULL, *long(*LONG)])
def test_a_bundle_answers_as_open_clip(tmp_path: Path, corpus: Corpus, name: str) -> None:
    own = "hf_tokenizer_name" in CONFIGS[name]["text_cfg"]
    folder, tokenizer = tmp_path / "checkpoint", None if own else openai_tokenizer()
    if gemma := "SigLIP2" in name:
        train_gemma(tmp_path, corpus.texts, 500, context=64)
        tokenizer = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    write_checkpoint(folder, name, PREPROCESS.get(name), tokenizer=tokenizer)
    if gemma:
        shutil.copy(tmp_path / "tokenizer_config.json", folder)
    oracle = OpenClip.load(folder)
    bundle = export(str(folder), tmp_path / name)
    clip = bareclip.load(tmp_path / name, reading="as_stored")
    assert bundle.image is not None
    for image in [picture(*shape) for shape in SHAPES] + [Image.open(p) for p in corpus.images]:
        found = read_pixels(image, bundle.image, "as_stored")
        np.testing.assert_array_equal(found, oracle.pixels(image), err_msg=str(image.size))
    texts = [*AWKWARD, *MARKUP, *corpus.texts]
    assert clip.texts.tokenizer is not None
    for text, ids in zip(texts, clip.texts.tokenizer.encode(texts, truncate=True), strict=True):
        wanted = oracle.ids(text)
        assert ids == wanted[: len(ids)], text
        assert set(wanted[len(ids) :]) <= {0, clip.texts.tokenizer.recipe.pad_id}
    images = [*corpus.images[::6]]
    wanted_images, wanted_texts = oracle.embed_images(images), oracle.embed_texts(texts[::5])
    show(tmp_path / name, f"{len(images)} images", clip.embed_images(images), wanted_images)
    show(tmp_path / name, f"{len(texts[::5])} texts", clip.embed_texts(texts[::5]), wanted_texts)
    np.testing.assert_allclose(clip.embed_images(images), wanted_images, atol=1e-5)
    np.testing.assert_allclose(clip.embed_texts(texts[::5]), wanted_texts, atol=1e-5)
    scale, bias = oracle.model.logit_scale, oracle.model.logit_bias
    assert bundle.scoring.logit_scale == pytest.approx(scale.item())
    assert bundle.scoring.function == ("softmax" if bias is None else "sigmoid")
    assert bundle.scoring.logit_bias == (0 if bias is None else bias.item())
