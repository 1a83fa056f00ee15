"""Through optimum: a family that we do not author, against transformers' own code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.errors import CheckpointError
from bareclip_export.export import export
from tests.variants import SHAPES, picture

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

TEXTS = ["一只猫", "", "two dogs on the beach, 100% blue!", "杰尼龟 和 皮卡丘 " * 20, "a\tcat\n"]


def save(model: Any, folder: Path) -> None:
    """With weights large enough for vectors to differ."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    model.eval().save_pretrained(folder)


def write_altclip(folder: Path) -> Path:
    """A small seeded AltCLIP: an XLM-RoBERTa for texts, which sees all of them through a mask."""
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"一只猫杰尼龟和皮卡丘"]
    words += ["two", "dog", "##s", "on", "the", "beach", ",", "a", "cat", "1", "##0", "%", "!"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=24)
    torch.manual_seed(0)
    config = transformers.AltCLIPConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 26,
            "pad_token_id": 1,
            "project_dim": 32,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=20,
    )
    save(transformers.AltCLIPModel(config), folder)
    tokenizer.save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    processor.save_pretrained(folder)
    return folder


def write_metaclip_2(folder: Path) -> Path:
    """A small seeded MetaCLIP 2: CLIP's towers, an XLM-RoBERTa's tokens."""
    folder = write_altclip(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {"num_hidden_layers": 2, "intermediate_size": 64, "hidden_act": "gelu"}
    torch.manual_seed(0)
    config = transformers.MetaClip2Config(
        text_config=sizes
        | {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_attention_heads": 2,
            "max_position_embeddings": 24,
            "eos_token_id": tokenizer.sep_token_id,
        },
        vision_config=sizes
        | {"hidden_size": 48, "num_attention_heads": 3, "image_size": 32, "patch_size": 8},
        projection_dim=20,
    )
    save(transformers.MetaClip2Model(config), folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "write"),
    [("AltCLIPModel", write_altclip), ("MetaClip2Model", write_metaclip_2)],
)
def test_a_family_answers_as_transformers(
    tmp_path: Path, architecture: str, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path / "checkpoint")
    bundle = export(str(folder), tmp_path / "bundle", "optimum")
    assert bundle.source.architecture == architecture
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    clip = bareclip.load(tmp_path / "bundle", reading="as_stored")
    images = [picture(*shape) for shape in SHAPES]
    form = {"input_data_format": "channels_last"}
    for image in images:
        raw = processor(image, do_rescale=False, do_normalize=False, return_tensors="np", **form)
        wanted = raw["pixel_values"][0].transpose(1, 2, 0).astype(np.uint8)
        np.testing.assert_array_equal(
            read_pixels(image, bundle.image_recipe(), "as_stored"), wanted
        )
    assert clip.texts.tokenizer is not None
    assert clip.texts.tokenizer.encode(TEXTS, truncate=True) == [
        tokenizer(text, truncation=True)["input_ids"] for text in TEXTS
    ]
    given = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    normalize = torch.nn.functional.normalize
    with torch.inference_mode():
        texts = normalize(model.get_text_features(**given)).numpy()
        seen = processor(images, return_tensors="pt", **form)
        wanted_images = normalize(model.get_image_features(**seen)).numpy()
    np.testing.assert_allclose(clip.embed_images(images), wanted_images, atol=1e-5)
    np.testing.assert_allclose(clip.embed_texts(TEXTS), texts, atol=1e-5)
    for text, row in zip(TEXTS, texts, strict=True):
        np.testing.assert_allclose(clip.embed_texts([text])[0], row, atol=1e-5)


def test_a_config_without_architectures_is_of_its_model_type(tmp_path: Path) -> None:
    folder = write_altclip(tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": None}))
    with pytest.raises(CheckpointError, match="has the architecture altclip; we author CLIPModel"):
        export(str(folder), tmp_path / "authored")
    bundle = export(str(folder), tmp_path / "bundle", "optimum")
    assert bundle.source.architecture == "altclip"


def test_what_has_no_features_is_refused(tmp_path: Path) -> None:
    folder = write_altclip(tmp_path / "bert")
    bert = transformers.BertModel(
        transformers.BertConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1)
    )
    bert.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertModel"]
    with pytest.raises(CheckpointError, match="a BertModel, which has no get_image_features, get_"):
        export(str(folder), tmp_path / "bundle", "optimum")
