"""NLLB-CLIPs in OpenCLIP's layout, with seeded random weights; as tests/seeded/bert.py."""

import json
import string
from pathlib import Path
from typing import Any

from . import open_clip
from .bert import TEXT_CFG, Config, save
from .clip import write_json
from .shapes import Shapes

LANGUAGES = ["arb_Arab", "eng_Latn", "jpn_Jpan", "kor_Hang", "zho_Hans"]
# config.json by model; vocab_size is the tokenizer's.
SMALL: Config = {
    "model_type": "m2m_100",
    "pad_token_id": 1,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 72,
    "decoder_ffn_dim": 8,
    "activation_function": "relu",
    "max_position_embeddings": 24,
    "scale_embedding": True,
}
_LARGE = {"d_model": 1024, "encoder_attention_heads": 16, "max_position_embeddings": 1024}
NAMED: dict[str, Config] = {
    "facebook/nllb-200-distilled-600M": SMALL
    | _LARGE
    | {"encoder_layers": 12, "encoder_ffn_dim": 4096, "vocab_size": 256206},
    "facebook/nllb-200-distilled-1.3B": SMALL
    | _LARGE
    | {"encoder_layers": 24, "encoder_ffn_dim": 8192, "vocab_size": 256206},
}


def write_tokens(folder: Path) -> int:
    """A tokenizer.json like NLLB's, without the language that its class puts before a text."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = ["▁", "▁a", "▁the", "▁cat", "▁dog", "▁red", "猫", "고", "양", "이", "é"]
    pieces = [*special, *words, *string.ascii_lowercase]
    names = [*pieces, *LANGUAGES]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    whole = {
        "version": "1.0",
        "added_tokens": [
            {"id": names.index(token), "content": token, "special": True, **added}
            for token in (*special, *LANGUAGES)
        ],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True,
        },
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [[piece, -float(index)] for index, piece in enumerate(pieces)],
        },
    }  # fmt: skip
    write_json(folder / "tokenizer.json", whole)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "NllbTokenizer"})
    return len(names)


def write_open_clip(
    folder: Path,
    model: str | None = None,
    seed: int = 0,
    vision: Config | None = None,
    embed_dim: int | None = None,
    **text: Any,
) -> Path:
    """OpenCLIP's layout; the small model's config.json lies beside, a full-size one goes by name.

    Args:
        folder: Made if it is not there; a tokenizer in it is kept.
        model: Of ``NAMED``; None is the small one.
        seed: Of the weights.
        vision: vision_cfg; None is that of a small ViT, or of ViT-B-32.
        embed_dim: None is theirs.
        **text: More of text_cfg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(NAMED[model] if model else SMALL)
    if not (folder / "tokenizer.json").is_file():
        config.setdefault("vocab_size", write_tokens(folder))
    if model is None:
        whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        rows = [token["id"] for token in whole["added_tokens"]]
        config.setdefault("vocab_size", max(len(whole["model"]["vocab"]), *rows) + 1)
        write_json(folder / "config.json", config)
    given = open_clip.CONFIGS["tiny" if model is None else "ViT-B-32"]
    given = given if vision is None else given | {"vision_cfg": vision}
    given = given if embed_dim is None else given | {"embed_dim": embed_dim}
    name = model or "facebook/nllb-seeded"
    pooled = {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    section = {"hf_model_name": name} | TEXT_CFG | pooled | text
    write_json(folder / "open_clip_config.json", {"model_cfg": given | {"text_cfg": section}})
    found = _shapes(config, "text.transformer.")
    out, width = given["embed_dim"], config["d_model"]
    if section["hf_proj_type"] == "linear":
        found["text.proj.weight"] = (out, width)
    else:
        found["text.proj.0.weight"] = ((width + out) // 2, width)
        found["text.proj.2.weight"] = (out, (width + out) // 2)
    stub = {"vocab_size": 1, "context_length": 1, "width": 1, "layers": 0}
    images = open_clip.shapes(given | {"text_cfg": stub})
    kept = ("logit_scale", "logit_bias")
    found |= {n: s for n, s in images.items() if n.startswith("visual.") or n in kept}
    save(found, folder / "open_clip_model.safetensors", seed)
    return folder


def _shapes(config: Config, name: str) -> Shapes:
    """Names and shapes of the encoder's tensors."""
    width, wide = config["d_model"], config["encoder_ffn_dim"]
    found: Shapes = {f"{name}embed_tokens.weight": (config["vocab_size"], width)}

    def add(layer: str, *shape: int) -> None:
        found[f"{layer}.weight"], found[f"{layer}.bias"] = shape, shape[:1]

    for index in range(config["encoder_layers"]):
        layer = f"{name}layers.{index}"
        for part in ("q", "k", "v", "out"):
            add(f"{layer}.self_attn.{part}_proj", width, width)
        add(f"{layer}.self_attn_layer_norm", width)
        add(f"{layer}.fc1", wide, width)
        add(f"{layer}.fc2", width, wide)
        add(f"{layer}.final_layer_norm", width)
    add(f"{name}layer_norm", width)
    return found
