"""What verifies an export reads the checkpoint by itself: one reader's mistake is seen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bareclip_export import image_recipe, sentencepiece_model, text_recipe
from bareclip_export.errors import ParityError
from bareclip_export.export import export
from bareclip_export.layouts import huggingface, huggingface_config, open_clip_config
from bareclip_export.layouts import open_clip as open_clip_layout
from bareclip_export.layouts.huggingface_config import TextConfig
from tests.export.test_sentencepiece_model import model as sentencepiece

Change = Callable[[pytest.MonkeyPatch], Any]


def default(section: dict[str, Any], name: str, value: Any) -> Change:
    return lambda patch: patch.setitem(section, name, value)


def end_rule(patch: pytest.MonkeyPatch) -> None:
    """The highest id's place for the end token's, and the other way around."""
    right = huggingface_config.read_text

    def wrong(*given: Any) -> TextConfig:
        config = right(*given)
        return TextConfig(**(config.__dict__ | {"end_id": config.vocabulary - 2}))

    patch.setattr("bareclip_export.layouts.huggingface_clip.read_text", wrong)
    patch.setattr(text_recipe, "end_of", lambda *_, **__: 604)


CHANGES: dict[str, tuple[str, list[str], Change]] = {
    "CLIP's epsilon of images": (
        "tiny", [], default(huggingface_config.CLIP_VISION, "layer_norm_eps", 1e-2),
    ),
    "CLIP's epsilon of texts": (
        "tiny", [], default(huggingface_config.CLIP_TEXT, "layer_norm_eps", 1e-2),
    ),
    "CLIP's activation": (
        "tiny", ["vision_config.hidden_act"],
        default(huggingface_config.CLIP_VISION, "hidden_act", "gelu"),
    ),
    "an activation's name": (
        "tiny", [], default(huggingface.ACTIVATIONS, "quick_gelu", "gelu"),
    ),
    "CLIP's mean": (
        "tiny", ["image_mean"],
        lambda patch: patch.setitem(
            image_recipe._PROCESSORS["CLIPImageProcessor"], "image_mean", [0.5] * 3
        ),
    ),
    "CLIP's end token": ("tiny", [], end_rule),
    "SigLIP's epsilon": (
        "siglip", [], default(huggingface_config.SIGLIP_VISION, "layer_norm_eps", 1e-2),
    ),
    "SigLIP's activation": (
        "siglip", ["text_config.hidden_act"],
        default(huggingface_config.SIGLIP_TEXT, "hidden_act", "gelu"),
    ),
    "OpenCLIP's heads": (
        "open_clip", ["model_cfg.text_cfg.heads"], default(open_clip_config._TEXT, "heads", 4),
    ),
    "OpenCLIP's pooling": (
        "open_clip-average", ["model_cfg.vision_cfg.final_ln_after_pool"],
        default(open_clip_config._VISION, "final_ln_after_pool", True),
    ),
    "OpenCLIP's mean": (
        "open_clip", [], lambda patch: patch.setattr(open_clip_config, "OPENAI_MEAN", [0.5] * 3),
    ),
    "OpenCLIP's mask": (
        "open_clip", ["model_cfg.text_cfg.no_causal_mask"],
        lambda patch: patch.setattr(
            open_clip_layout, "_text", _uncausal(open_clip_layout._text)
        ),
    ),
}  # fmt: skip


def _uncausal(right: Callable[..., Any]) -> Callable[..., Any]:
    from dataclasses import replace

    return lambda *given: replace(right(*given), causal=False)


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_default_in_a_layout_fails_the_export(
    checkpoints: dict[str, Path],
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    source, left_out, apply = CHANGES[change]
    folders = {
        "tiny": checkpoints["tiny"],
        "siglip": family_checkpoints["siglip"],
        "open_clip": family_checkpoints["tiny"],
        "open_clip-average": family_checkpoints["tiny-average"],
    }
    folder = Path(shutil.copytree(folders[source], tmp_path / "checkpoint"))
    for dotted in left_out:
        drop(folder, dotted.split("."))
    # As it is, the checkpoint is exported.
    export(str(folder), tmp_path / "right")
    apply(monkeypatch)
    with pytest.raises(ParityError, match="tower differs from float64 NumPy"):
        export(str(folder), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def drop(folder: Path, path: list[str]) -> None:
    for name in ("config.json", "preprocessor_config.json", "open_clip_config.json"):
        if not (folder / name).is_file():
            continue
        whole = section = json.loads((folder / name).read_text())
        for part in path[:-1]:
            section = section.get(part, {})
        section.pop(path[-1], None)
        (folder / name).write_text(json.dumps(whole))


@pytest.fixture
def siglip(family_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """With a SentencePiece model of its own, as Google's has."""
    folder = Path(shutil.copytree(family_checkpoints["siglip"], tmp_path / "checkpoint"))
    (folder / "spiece.model").write_bytes(sentencepiece(fallback=True))
    grow_vocabulary(folder, 14 + 256)
    return folder


def grow_vocabulary(folder: Path, rows: int) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    table = np.random.default_rng(0).standard_normal((rows, tensors[name].shape[1])) / 2
    save_file(tensors | {name: table.astype(np.float32)}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = rows
    (folder / "config.json").write_text(json.dumps(config))


def test_a_mistake_in_reading_a_tokenizer_fails_the_export(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids alone, from which towers are compared, cannot show one."""
    export(str(siglip), tmp_path / "right")
    # Without its bytes every unknown letter was one token, once.
    for name, wrong in (("_BYTE_FALLBACK", 99), ("_SPACE", "[x]")):
        with monkeypatch.context() as patch:
            patch.setattr(sentencepiece_model, name, wrong)
            with pytest.raises(ParityError, match="the tokenizer reads text .*nothing was written"):
                export(str(siglip), tmp_path / "wrong")


def test_a_mistake_in_lower_casing_fails_the_export(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_recipe, "lower_cases", lambda _: False)
    with pytest.raises(ParityError, match="the tokenizer reads text"):
        export(str(siglip), tmp_path / "wrong")
