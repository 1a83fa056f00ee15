"""Live against open_clip 3.3: files of weights as it and its trainer write them, at full size."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.export import export
from bareclip_export.open_clip_models import config_of_name, models
from tests.variants import SHAPES, picture

from .awkward import awkward_texts
from .conftest import Corpus
from .open_clip_oracle import OpenClip, import_open_clip, openai_tokenizer
from .test_transformers import show

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

TEXTS = [*awkward_texts(120), "cat " * 90]


def seeded(open_clip: Any, name: str) -> Any:
    """A model of open_clip's with weights that make vectors differ."""
    torch.manual_seed(3)
    model = open_clip.create_model(name, pretrained=None).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def agree(oracle: OpenClip, bundle: Path, corpus: Corpus) -> None:
    clip = bareclip.load(bundle, reading="as_stored")
    images = [picture(*shape) for shape in SHAPES] + [
        Image.open(path) for path in corpus.images[::20]
    ]
    for image in images:
        found = read_pixels(image, clip.bundle.image_recipe(), "as_stored")
        np.testing.assert_array_equal(found, oracle.pixels(image), err_msg=str(image.size))
    assert clip.texts.tokenizer is not None
    for text, ids in zip(TEXTS, clip.texts.tokenizer.encode(TEXTS, truncate=True), strict=True):
        wanted = oracle.ids(text)
        assert ids == wanted[: len(ids)], text
        assert not any(wanted[len(ids) :])
    paths, some = [*corpus.images[::20]], TEXTS[::6]
    for what, ours, theirs in (
        ("images", clip.embed_images(paths), oracle.embed_images(paths)),
        ("texts", clip.embed_texts(some), oracle.embed_texts(some)),
    ):
        show(bundle, f"{len(ours)} {what}", ours, theirs)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(openai_tokenizer()))
    return tmp_path


def test_a_training_checkpoint(folder: Path, corpus: Corpus) -> None:
    """As open_clip's trainer saves one of parallel training, its optimizer's state included."""
    open_clip = import_open_clip()
    model, path = seeded(open_clip, "ViT-B-32-quickgelu"), folder / "epoch_5.pt"
    optimizer = torch.optim.AdamW(model.parameters())
    model.visual.proj.grad = torch.ones_like(model.visual.proj)
    optimizer.step()
    scaler = torch.amp.GradScaler("cpu")
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(
        {
            "epoch": 5,
            "name": "a run",
            "state_dict": state,
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
        },
        path,
    )
    again, transform = open_clip.create_model_from_pretrained(
        "ViT-B-32-quickgelu", pretrained=str(path)
    )
    oracle = OpenClip(again.eval(), transform, open_clip.get_tokenizer("ViT-B-32-quickgelu"))
    bundle = export(str(path), folder / "bundle", model="ViT-B-32-quickgelu")
    assert bundle.source.architecture == "open_clip VisionTransformer"
    agree(oracle, folder / "bundle", corpus)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_an_archive_as_openai_publishes(folder: Path, corpus: Corpus, name: str) -> None:
    """A traced program in half precision, which open_clip runs to get at its tensors."""
    open_clip = import_open_clip()
    model, path = seeded(open_clip, name), folder / f"{name}.pt"
    open_clip.model.convert_weights_to_fp16(model)
    # OpenAI's has its mask as a constant.
    mask = model._buffers.pop("attn_mask")
    model.attn_mask = mask
    # Traced in float32 where the CPU can, the weights that are then saved in half.
    traced = torch.jit.trace_module(
        model.float(),
        {
            "encode_image": torch.zeros(1, 3, 224, 224),
            "encode_text": torch.zeros(1, 77, dtype=torch.long),
        },
        check_trace=False,
    )
    torch.jit.save(traced.half(), path)
    again = open_clip.load_openai_model(str(path), precision="fp32", device="cpu").eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(), is_train=False
    )
    oracle = OpenClip(again, transform, open_clip.get_tokenizer(name))
    export(str(path), folder / "bundle")
    agree(oracle, folder / "bundle", corpus)


def test_every_name_has_open_clips_configuration() -> None:
    """What is left out is open_clip's default; what only training takes does not count."""
    open_clip = import_open_clip()
    assert list(models()) == open_clip.list_models()
    training = {"timm_model_pretrained", "timm_drop", "timm_drop_path", "hf_model_pretrained"}
    training |= {"patch_dropout"}
    kinds = {"vision_cfg": open_clip.model.CLIPVisionCfg, "text_cfg": open_clip.model.CLIPTextCfg}
    for name in models():
        found, wanted = models()[name]["model_cfg"], open_clip.get_model_config(name)
        for section, kind in kinds.items():
            ours, theirs = (asdict(kind(**config[section])) for config in (found, wanted))
            differ = {key for key in ours if ours[key] != theirs[key]} - training
            assert not differ, (name, section)
        for key in ("embed_dim", "quick_gelu", "multimodal_cfg", "init_logit_bias"):
            assert found.get(key) == wanted.get(key), (name, key)


def test_every_tag_has_open_clips_preprocessing() -> None:
    open_clip = import_open_clip()
    for name, given in models().items():
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not name.endswith("-quickgelu"):
            assert list(given.get("tags", {})) == tags
        for tag in tags:
            theirs = open_clip.get_pretrained_cfg(name, tag)
            config = config_of_name(f"{name}__{tag}")
            for key, usual in asdict(open_clip.transform.PreprocessCfg()).items():
                if key in theirs:
                    found = config["preprocess_cfg"].get(key, usual)
                    assert tuple(np.ravel(found)) == tuple(np.ravel(theirs[key])), (name, tag, key)
            quick = bool(theirs.get("quick_gelu"))
            assert bool(config["model_cfg"].get("quick_gelu")) >= quick, (name, tag)
