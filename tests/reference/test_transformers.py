"""Live against transformers 4.57 and its PIL processor, at full size and at odd shapes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip.scoring.vectors import softmax
from bareclip.texts.tokenizer import Tokenizer
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.export import export
from bareclip_export.pickle_weights import read_pickle_weights
from bareclip_export.text_recipe import read_tokenizer
from tests.export.test_towers import SHAPES as ODD_SIZES
from tests.seeded.clip import SIZES, Sizes, write_checkpoint
from tests.variants import SHAPES, TEXTS, VARIANTS, picture

from .conftest import Corpus, Oracle

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

AWKWARD = [
    *TEXTS,
    "<|endoftext|> in the middle <|startoftext|>",
    "it's DON'T we'll they've I'm he'd 's",
    "ﬁ ① Å İ ẞ ǅ",
    "\u200b zero \x00 width \ufeff",
    "&lt;b&gt; &amp; “curly” ‘quotes’ — … ™",
    "ｆｕｌｌ－ｗｉｄｔｈ １２３",
    "👩‍👩‍👧 🏳️‍🌈 e\u0301",
    "    ",
    "12345 67.8 9e-3 #hashtag @name",
]


def show(bundle: Path, what: str, found: Any, wanted: Any) -> None:
    """One line a comparison, for docs/fidelity.md: pytest -m reference -rP."""
    print(f"{bundle.name}: {what}, largest difference {np.abs(found - wanted).max():.1e}")


def agree(oracle: Oracle, bundle: Path, corpus: Corpus) -> None:
    """Vectors within 1e-5, probabilities within 1e-4, pixels and ids identical."""
    clip = bareclip.load(bundle, reading="as_stored")
    for path in corpus.images:
        wanted_pixels = oracle.pixels(Image.open(path).convert("RGB"))
        found_pixels = read_pixels(path, clip.bundle.image, "as_stored")
        np.testing.assert_array_equal(found_pixels, wanted_pixels)
    images, texts = clip.embed_images(corpus.images), clip.embed_texts(corpus.texts)
    wanted_images, wanted_texts = (
        oracle.embed_images(corpus.images),
        oracle.embed_texts(corpus.texts),
    )
    show(bundle, f"{len(images)} images", images, wanted_images)
    show(bundle, f"{len(texts)} texts", texts, wanted_texts)
    np.testing.assert_allclose(images, wanted_images, atol=1e-5)
    np.testing.assert_allclose(texts, wanted_texts, atol=1e-5)
    labels = tuple(dict.fromkeys(t for t in corpus.texts if t.strip()))[:50]
    scale = np.exp(oracle.model.logit_scale.item())
    wanted = softmax(scale * wanted_images @ oracle.embed_texts(labels).T)
    found = clip.classifier(labels, templates="{}").probabilities(images)
    show(bundle, "probabilities", found, wanted)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("route", ["authored", "optimum"])
def test_vit_b32(vit_b32: Oracle, corpus: Corpus, tmp_path: Path, route: str) -> None:
    # In a process of its own, as users run it.
    command = [sys.executable, "-m", "bareclip", "export", str(vit_b32.folder), "--via", route]
    subprocess.run([*command, "-o", str(tmp_path / "bundle")], check=True)
    agree(vit_b32, tmp_path / "bundle", corpus)
    clip = bareclip.load(tmp_path / "bundle")
    images, texts = corpus.images[:9], corpus.texts[:33]
    together = clip.embed_images(images), clip.embed_texts(texts)
    for i in range(len(images)):
        np.testing.assert_allclose(clip.embed_images([images[i]])[0], together[0][i], atol=1e-6)
    for i in range(len(texts)):
        np.testing.assert_allclose(clip.embed_texts([texts[i]])[0], together[1][i], atol=1e-6)


@pytest.mark.parametrize("size", ["ViT-B/16", "ViT-L/14"])
def test_larger_vits(
    oracle: Callable[[Sizes, Path], Oracle], corpus: Corpus, tmp_path: Path, size: str
) -> None:
    (tmp_path / "checkpoint").mkdir()
    made = oracle(SIZES[size], tmp_path / "checkpoint")
    export(str(made.folder), tmp_path / "bundle")
    shutil.rmtree(made.folder)  # or the disk would hold a large model four times
    some = Corpus(corpus.images[::8], corpus.texts[::10])
    agree(made, tmp_path / "bundle", some)


@pytest.mark.parametrize("name", [*VARIANTS, *ODD_SIZES])
def test_odd_shapes(tmp_path: Path, corpus: Corpus, name: str) -> None:
    sizes = (VARIANTS | ODD_SIZES)[name]
    folder = write_checkpoint(tmp_path / "checkpoint", sizes)
    made = Oracle(
        folder,
        transformers.CLIPModel.from_pretrained(folder).eval(),
        transformers.CLIPImageProcessor.from_pretrained(folder),
        transformers.CLIPTokenizerFast.from_pretrained(folder, model_max_length=sizes.context),
    )
    some = Corpus(corpus.images[:8], (*AWKWARD, *corpus.texts[:20]))
    for route in ("authored", "optimum"):
        bundle = export(str(folder), tmp_path / route, route)  # type: ignore[arg-type]
        for tower in bundle.precisions["fp32"].values():
            assert tower.parity.reference == "float64 NumPy"
        agree(made, tmp_path / route, some)


def test_an_activation_we_do_not_author_goes_through_optimum(tmp_path: Path) -> None:
    sizes = SIZES["tiny"]
    folder = write_checkpoint(tmp_path / "checkpoint", sizes)
    config = json.loads((folder / "config.json").read_text())
    for section in ("vision_config", "text_config"):
        config[section]["hidden_act"] = "silu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(bareclip.BareclipError, match="try --via optimum"):
        export(str(folder), tmp_path / "authored")
    made = export(str(folder), tmp_path / "bundle", "optimum")
    reference = made.precisions["fp32"]["text"].parity.reference
    assert reference == f"float64 transformers {transformers.__version__}"
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    clip = bareclip.load(tmp_path / "bundle")
    ids = torch.tensor(clip.texts.tokenizer.encode(["a photo of a cat"], True))
    with torch.inference_mode():
        wanted = torch.nn.functional.normalize(model.get_text_features(ids)).numpy()
    np.testing.assert_allclose(clip.embed_texts(["a photo of a cat"]), wanted, atol=1e-5)


def test_geometry_is_pixel_exact_at_any_size(vit_b32: Oracle, tmp_path: Path) -> None:
    from tests.runtime.test_preprocess import RECIPE

    rng = np.random.default_rng(11)
    random = [tuple(int(n) for n in np.exp(rng.uniform(0, 7.2, 2))) for _ in range(60)]
    sizes = [s for s in random if max(s) < 40 * min(s)]
    for size in (224, 30):
        from dataclasses import replace

        recipe = replace(RECIPE, size=size, resize_to=size)
        processor = transformers.CLIPImageProcessor(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        oracle = Oracle(tmp_path, None, processor, None)
        for width, height in [*SHAPES, (224, 224), (227, 224), *sizes]:
            image = picture(width, height)
            found = read_pixels(image, recipe, "as_stored")
            np.testing.assert_array_equal(found, oracle.pixels(image), err_msg=f"{width}x{height}")


@pytest.mark.parametrize("slow", [False, True])
def test_token_ids_are_identical(
    vit_b32: Oracle, corpus: Corpus, tmp_path: Path, slow: bool
) -> None:
    """From tokenizer.json, and from the vocab.json and merges.txt of older repositories."""
    if slow:
        model = json.loads((vit_b32.folder / "tokenizer.json").read_text())["model"]
        (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")
        (tmp_path / "config.json").write_text("{}")
        reference = transformers.CLIPTokenizerFast.from_pretrained(tmp_path, model_max_length=77)
        folder = tmp_path
    else:
        reference, folder = vit_b32.tokenizer, vit_b32.folder
    vocabulary = vit_b32.model.config.text_config.vocab_size
    made, recipe = read_tokenizer(Checkpoint.open(str(folder)), 77, vocabulary, None)
    texts = [*AWKWARD, *corpus.texts]
    assert Tokenizer(made, recipe).encode(texts, truncate=True) == [
        reference(text, truncation=True)["input_ids"] for text in texts
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_torch_saves_is_read(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(1)
    base = torch.randn(6, 8).to(getattr(torch, dtype))
    state: dict[str, Any] = {
        "whole": base,
        "transposed": base.T,
        "part": base[2:4, 1:7:2],
        "scalar": torch.tensor(4.5).to(base.dtype),
        "parameter": torch.nn.Parameter(base * 2),
        "ids": torch.arange(5),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = read_pickle_weights(tmp_path / "pytorch_model.bin")
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        wanted = tensor.detach().double().numpy()
        np.testing.assert_array_equal(found[name].float64(), wanted)


def test_a_model_saved_as_pytorch_pickle_exports_the_same(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    safe = export(str(folder), tmp_path / "safe")
    model = transformers.CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert export(str(folder), tmp_path / "pickled").files() == safe.files()
