"""OpenCLIP's config: what is read, and that nothing in it is guessed."""

import json
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError
from bareclip_export.layouts import read_model
from bareclip_export.layouts.model import Model
from tests.seeded.clip import make_tokenizer
from tests.seeded.open_clip import write_checkpoint


def changed(folder: Path, model: str = "tiny", **change: dict[str, Any]) -> Model:
    """Reads a checkpoint whose config is changed after its weights were written."""
    write_checkpoint(folder, model)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    for section, fields in change.items():
        target = config if section == "preprocess_cfg" else config["model_cfg"]
        target[section] = target.get(section, {}) | fields if fields is not None else None
    path.write_text(json.dumps(config))
    return read_model(Checkpoint.open(str(folder)))


def test_preprocessing_is_read_with_open_clips_defaults(tmp_path: Path) -> None:
    plain = changed(tmp_path / "a").vision
    assert plain is not None
    image = plain.recipe
    assert (image.resize, image.resize_to, image.size) == ("shortest", 32, 32)
    assert (image.interpolation, image.crop_offset) == ("bicubic", "round")
    assert image.mean[0] == 0.48145466
    given = {"resize_mode": "squash", "interpolation": "bilinear", "mean": 0.5, "std": [1, 2, 3]}
    other = changed(tmp_path / "b", preprocess_cfg=given).vision
    assert other is not None
    image = other.recipe
    assert (image.resize, image.interpolation) == ("squash", "bilinear")
    assert (image.mean, image.std) == ((0.5, 0.5, 0.5), (1, 2, 3))


def test_texts_are_cleaned_as_open_clip_does(tmp_path: Path) -> None:
    plain, own = changed(tmp_path / "a").text, changed(tmp_path / "b", "tiny-last").text
    assert plain is not None
    assert own is not None
    basic = ("fix_text", "unescape_html")
    assert plain.recipe.clean_up == (*basic, "collapse_whitespace", "lowercase")
    assert not plain.recipe.fixed_length
    assert own.recipe.clean_up == (
        *basic, "underscores_to_spaces", "remove_punctuation", "lowercase", "collapse_whitespace",
    )  # fmt: skip
    assert own.recipe.fixed_length
    assert own.recipe.pad_id == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocess_cfg": {"resize_mode": "longest"}}, "unknown resize_mode 'longest'; known"),
        ({"preprocess_cfg": {"interpolation": "area"}}, "unknown interpolation 'area'; known are"),
        ({"preprocess_cfg": {"mean": [1]}}, "where three numbers are due"),
        ({"vision_cfg": {"pool_type": "none"}}, "unknown pool_type 'none'; known are tok, avg"),
        ({"vision_cfg": {"ls_init_value": 1e-4}}, "vision_cfg.ls_init_value = 0.0001, which we do"),
        ({"vision_cfg": {"attentional_pool": True}}, "attentional_pool = True"),
        ({"vision_cfg": {"register_tokens": 4}}, "unknown field vision_cfg.register_tokens = 4"),
        ({"vision_cfg": {"act_kwargs": {"approximate": "sin"}}}, "unknown act_kwargs"),
        ({"vision_cfg": {"image_size": [32, 64]}}, "author square images"),
        ({"vision_cfg": {"timm_model_name": "fastvit_t8"}}, "timm model 'fastvit_t8'; we author"),
        ({"vision_cfg": {"width": "wide"}}, "vision_cfg.width = 'wide'"),
        ({"text_cfg": {"pool_type": "first"}}, "unknown text pool_type 'first'"),
        ({"text_cfg": {"hf_model_name": "google/mt5-base"}}, "hf_model_name .google/mt5-base"),
        ({"text_cfg": {"embed_cls": True}}, "text_cfg.embed_cls = True"),
        ({"text_cfg": {"tokenizer_mode": "clips"}}, "tokenizer_mode = 'clips'"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "scrub"}}}, "unknown tokenizer_kwargs"),
        ({"text_cfg": {"tokenizer_kwargs": {"language": "en"}}}, "unknown tokenizer_kwargs"),
        (
            {"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}},
            "strip_sep_token with the tokenizer None and pool_type 'argmax'; we author it with",
        ),
        ({"text_cfg": {"proj_type": "mlp"}}, "unknown proj_type 'mlp'"),
        ({"text_cfg": {"norm_kwargs": {"bias": False}}}, "unknown norm_kwargs"),
        ({"text_cfg": {"pool_type": "last"}}, "pool_type 'last', a combination we do not author"),
        ({"text_cfg": {"vocab_size": 100}}, "ids up to .* token table 100 rows"),
        ({"text_cfg": {"context_length": 25}}, r"positional_embedding' .* asks for \(25, 32\)"),
        ({"text_cfg": {"hf_tokenizer_name": "x"}}, "pools the highest id of the tokenizer 'x'"),
        ({"multimodal_cfg": {"width": 8}}, "describes a CoCa"),
    ],
)
def test_what_is_unknown_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        changed(tmp_path / "checkpoint", **change)


def test_a_tokenizer_that_is_not_clips_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    other = make_tokenizer()
    other["model"]["end_of_word_suffix"] = None
    (folder / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(CheckpointError, match="word ending None, not CLIP's; take tokenizer.json"):
        read_model(Checkpoint.open(str(folder)))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"neither tokenizer.json .* openai/clip-vit-large"):
        read_model(Checkpoint.open(str(folder)))


def test_an_unknown_tokenizer_class_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "tiny-last")
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "MBartTokenizer"})
    )
    with pytest.raises(CheckpointError, match="unknown tokenizer_class 'MBartTokenizer'; known"):
        read_model(Checkpoint.open(str(folder)))
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="says nowhere what pads a text"):
        read_model(Checkpoint.open(str(folder)))
    path.write_text('{"pad_token": {"content": "<nothing>"}}')
    with pytest.raises(CheckpointError, match="pads with '<nothing>', a token that"):
        read_model(Checkpoint.open(str(folder)))
