"""Checkpoints with seeded random weights in the layout of Hugging Face's SiglipModel.

As tests/seeded/clip.py, which makes CLIP's.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .clip import Sizes, Tower, write_json

SIZES = {
    "tiny": Sizes(Tower(48, 96, 3, 3), 32, 8, Tower(32, 64, 2, 2), 16, 48, "gelu_pytorch_tanh"),
    "base-patch16": Sizes(
        Tower(768, 3072, 12, 12), 224, 16, Tower(768, 3072, 12, 12), 64, 768, "gelu_pytorch_tanh"
    ),
    "base-patch32-256": Sizes(
        Tower(768, 3072, 12, 12), 256, 32, Tower(768, 3072, 12, 12), 64, 768, "gelu_pytorch_tanh"
    ),
}
_PIECES = (  # noqa: SIM905
    "▁a ▁photo ▁of ▁the ▁cat ▁dog ▁two ▁red ▁circle s ▁run ▁on ▁beach ing ca t ▁d og"
).split()


def write_checkpoint(folder: Path, sizes: Sizes = SIZES["tiny"], seed: int = 0) -> Path:
    """Writes a checkpoint: config, processor, tokenizer and weights.

    Args:
        folder: Made if it is not there.
        sizes: Of the model.
        seed: Of the weights.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_unigram_tokenizer()
    write_json(folder / "tokenizer.json", tokenizer)
    names = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>"}
    write_json(folder / "tokenizer_config.json", names)
    vocabulary = len(tokenizer["model"]["vocab"])
    write_json(folder / "config.json", config(sizes, vocabulary))
    write_json(folder / "preprocessor_config.json", processor(sizes.image))
    save_file(
        {name: _weights(name, shape, seed) for name, shape in shapes(sizes, vocabulary).items()},
        folder / "model.safetensors",
    )
    return folder


def config(sizes: Sizes, vocabulary: int) -> dict[str, Any]:
    """config.json."""

    def tower(t: Tower) -> dict[str, Any]:
        return {
            "hidden_size": t.width,
            "intermediate_size": t.mlp,
            "num_hidden_layers": t.layers,
            "num_attention_heads": t.heads,
            "hidden_act": sizes.activation,
        }

    vision = tower(sizes.vision) | {"image_size": sizes.image, "patch_size": sizes.patch}
    text = tower(sizes.text) | {
        "vocab_size": vocabulary,
        "max_position_embeddings": sizes.context,
        "projection_size": sizes.embedding,
    }
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": vision,
        "text_config": text,
    }


def processor(size: int) -> dict[str, Any]:
    """preprocessor_config.json, as SiglipImageProcessor writes it."""
    return {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def shapes(sizes: Sizes, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a SiglipModel's tensors, as transformers writes them."""
    vision, text = sizes.vision.width, sizes.text.width
    found: dict[str, tuple[int, ...]] = {"logit_scale": (1,), "logit_bias": (1,)}

    def add(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    name = "vision_model.embeddings"
    add(f"{name}.patch_embedding", vision, 3, sizes.patch, sizes.patch)
    found[f"{name}.position_embedding.weight"] = ((sizes.image // sizes.patch) ** 2, vision)
    add("vision_model.post_layernorm", vision)
    head = "vision_model.head"
    found[f"{head}.probe"] = (1, 1, vision)
    found[f"{head}.attention.in_proj_weight"] = (3 * vision, vision)
    found[f"{head}.attention.in_proj_bias"] = (3 * vision,)
    add(f"{head}.attention.out_proj", vision, vision)
    add(f"{head}.layernorm", vision)
    add(f"{head}.mlp.fc1", sizes.vision.mlp, vision)
    add(f"{head}.mlp.fc2", vision, sizes.vision.mlp)
    found["text_model.embeddings.token_embedding.weight"] = (vocabulary, text)
    found["text_model.embeddings.position_embedding.weight"] = (sizes.context, text)
    add("text_model.final_layer_norm", text)
    add("text_model.head", sizes.embedding, text)
    for model, tower in (("vision_model", sizes.vision), ("text_model", sizes.text)):
        for layer in (f"{model}.encoder.layers.{index}" for index in range(tower.layers)):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                add(f"{layer}.self_attn.{part}", tower.width, tower.width)
            add(f"{layer}.mlp.fc1", tower.mlp, tower.width)
            add(f"{layer}.mlp.fc2", tower.width, tower.mlp)
            add(f"{layer}.layer_norm1", tower.width)
            add(f"{layer}.layer_norm2", tower.width)
    return found


def make_unigram_tokenizer() -> dict[str, Any]:
    """tokenizer.json in SentencePiece's form: a few pieces, letters, and an end token."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<unk>", "</s>", "▁", *_PIECES, *letters]
    vocab = [[piece, -2.0 - 0.01 * i - 4 * (len(piece) == 1)] for i, piece in enumerate(pieces)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": pieces[number], "special": True, **flags} for number in (0, 1)
        ],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": vocab},
    }


def _weights(name: str, shape: tuple[int, ...], seed: int) -> Any:
    """Weights that keep activations of order one; each seeded by its own name."""
    if name in ("logit_scale", "logit_bias"):
        return np.full(shape, np.log(100) if name == "logit_scale" else -10, np.float32)
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if len(shape) == 1:
        values = 1 + 0.2 * normal if name.endswith("weight") else 0.1 * normal
    elif "embedding" in name and "patch" not in name:
        values = 0.5 * normal
    else:
        values = normal / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)
