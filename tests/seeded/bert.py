"""Checkpoints with seeded random weights whose texts are of a model like BERT.

OpenCLIP's, Chinese-CLIP, M-CLIP and sentence-transformers'. As tests/seeded/clip.py, which makes
CLIP's.
"""

import json
import string
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from . import clip, open_clip
from .clip import Sizes, Tower, write_json
from .shapes import Shapes, add
from .word_pieces import word_piece_vocabulary, write_word_pieces

Config = dict[str, Any]

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
}
_XLM_R = {"max_position_embeddings": 26, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
# config.json by model; the vocabulary is the tokenizer's.
MODELS: dict[str, Config] = {
    "xlm-roberta": {"model_type": "xlm-roberta", "pad_token_id": 1} | _SMALL | _XLM_R,
    "roberta": {"model_type": "roberta", "pad_token_id": 1} | _SMALL | _XLM_R,
    "bert": {"model_type": "bert", "pad_token_id": 0, "max_position_embeddings": 24} | _SMALL,
    "distilbert": {
        "model_type": "distilbert",
        "pad_token_id": 0,
        "max_position_embeddings": 24,
        "dim": 32,
        "hidden_dim": 72,
        "n_layers": 3,
        "n_heads": 2,
        "activation": "gelu",
    },
    # An activation, an epsilon and a width of four heads that are none of the usual ones.
    "odd bert": {
        "model_type": "bert",
        "max_position_embeddings": 30,
        "layer_norm_eps": 1e-3,
        **_SMALL,
        "hidden_act": "gelu_new",
        "num_attention_heads": 4,
        "type_vocab_size": 3,
    },
}
_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu",
}
_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_FULL_XLM_R = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "pad_token_id": 1,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
# Of full size, by the names that checkpoints have them by; vocab_size is theirs.
NAMED: dict[str, Config] = {
    "xlm-roberta-base": _FULL_XLM_R | _BASE,
    "xlm-roberta-large": _FULL_XLM_R | _LARGE,
    "roberta-base": _FULL_XLM_R | _BASE | {"model_type": "roberta", "vocab_size": 50265},
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": {
        "model_type": "bert", "vocab_size": 30522, "pad_token_id": 0,
        "max_position_embeddings": 512, **_BASE,
    },
    "sentence-transformers/LaBSE": {
        "model_type": "bert", "vocab_size": 501153, "pad_token_id": 0,
        "max_position_embeddings": 512, **_BASE,
    },
    "distilbert-base-multilingual-cased": {
        "model_type": "distilbert", "vocab_size": 119547, "pad_token_id": 0,
        "max_position_embeddings": 512, "dim": 768, "hidden_dim": 3072, "n_layers": 6,
        "n_heads": 12, "activation": "gelu",
    },
    "chinese-roberta-wwm-ext": {
        "model_type": "chinese_clip_text_model", "vocab_size": 21128, "pad_token_id": 0,
        "max_position_embeddings": 512, **_BASE,
    },
}  # fmt: skip
# BiomedCLIP's images.
PLAIN_VIT = {
    "timm_model_name": "vit_base_patch16_224",
    "timm_model_pretrained": False,
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 224,
}
VIT_H_14 = {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14}
TEXT_CFG = {"hf_tokenizer_name": "someone/tokens", "context_length": 20}


def write_pieces(folder: Path) -> int:
    """A tokenizer.json like XLM-RoBERTa's: <s>, <pad>, </s>, <unk>, then pieces."""
    pieces = "▁a ▁photo ▁of ▁the ▁cat ▁dog ▁two ▁red s ▁ca t ▁d og ▁ 猫 고 양 이 é".split()  # noqa: SIM905
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    names = [*special, *dict.fromkeys([*pieces, *string.ascii_lowercase])]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    parts: list[Config] = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    whole = {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": token, "special": True, **added}
            for number, token in enumerate(special)
        ],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": parts,
            "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                token: {"id": token, "ids": [special.index(token)], "tokens": [token]}
                for token in ("<s>", "</s>")
            },
        },
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "byte_fallback": False,
            "vocab": [[name, -float(len(special) + place)] for place, name in enumerate(names)],
        },
    }
    write_json(folder / "tokenizer.json", whole)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>", "eos_token": "</s>"},
    )
    return len(names)


def write_tokens(folder: Path, config: Config) -> int:
    """Whichever a model of that config has."""
    if "roberta" in config["model_type"]:
        return write_pieces(folder)
    return write_word_pieces(folder, word_piece_vocabulary(), do_lower_case=True)


def write_open_clip(
    folder: Path,
    model: str = "xlm-roberta",
    seed: int = 0,
    vision: Config | None = None,
    **text: Any,
) -> Path:
    """OpenCLIP's layout; a small model's config.json lies beside, a full-size one goes by name.

    Args:
        folder: Made if it is not there; a tokenizer in it is kept.
        model: Of ``MODELS`` or ``NAMED``.
        seed: Of the weights.
        vision: vision_cfg; None is that of a small ViT, or of ViT-B-32.
        **text: More of text_cfg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small = model in MODELS
    config = dict(MODELS[model] if small else NAMED[model])
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        rows = write_tokens(folder, config)
        config.setdefault("vocab_size", rows)
    if small:
        config.setdefault("vocab_size", 0)
        write_json(folder / "config.json", config)
    given = open_clip.CONFIGS["tiny" if small else "ViT-B-32"]
    given = given if vision is None else given | {"vision_cfg": vision}
    text = (TEXT_CFG if small else {"hf_tokenizer_name": model}) | text
    write_json(
        folder / "open_clip_config.json",
        {"model_cfg": given | {"text_cfg": {"hf_model_name": model, **text}}},
    )
    write_open_clip_weights(folder, config, seed)
    return folder


def write_open_clip_weights(folder: Path, config: Config, seed: int = 0) -> None:
    """Weights that fit a folder's open_clip_config.json, and the text model's config."""
    whole = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    text, out = whole["text_cfg"], whole["embed_dim"]
    name, width = "text.transformer.", config["hidden_size"]
    found = shapes(config, name)
    if text.get("hf_pooler_type") == "cls_pooler":
        add(found, f"{name}pooler.dense", width, width)
    if text.get("hf_proj_type", "mlp") == "mlp":
        found["text.proj.0.weight"] = ((width + out) // 2, width)
        found["text.proj.2.weight"] = (out, (width + out) // 2)
    else:
        found["text.proj.weight"] = (out, width)
    stub = {"vocab_size": 1, "context_length": 1, "width": 1, "layers": 0}
    images = open_clip.shapes(whole | {"text_cfg": stub})
    found |= {n: s for n, s in images.items() if n.startswith("visual.") or n == "logit_scale"}
    save(found, folder / "open_clip_model.safetensors", seed)


def write_chinese_clip(folder: Path, full: bool = False, seed: int = 0) -> Path:
    """transformers' ChineseCLIPModel, with a vocab.txt, as its authors published it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = dict(NAMED["chinese-roberta-wwm-ext"] if full else MODELS["bert"])
    text["model_type"] = "chinese_clip_text_model"
    if not (folder / "vocab.txt").is_file():
        rows = write_word_pieces(folder, word_piece_vocabulary(), do_lower_case=True)
        text.setdefault("vocab_size", rows)
    else:
        text.setdefault(
            "vocab_size", len((folder / "vocab.txt").read_text("utf-8").split("\n")) - 1
        )
    sizes = replace(clip.SIZES["ViT-B/16" if full else "tiny"], text=Tower(8, 8, 1, 1))
    whole = clip.config(sizes, 9)
    del whole["text_config"]
    whole |= {"architectures": ["ChineseCLIPModel"], "model_type": "chinese_clip"}
    write_json(folder / "config.json", whole | {"text_config": text})
    side = {"height": sizes.image, "width": sizes.image}
    processor = clip.processor(sizes.image) | {"size": side, "do_center_crop": False}
    del processor["crop_size"]
    processor["image_processor_type"] = "ChineseCLIPImageProcessor"
    write_json(folder / "preprocessor_config.json", processor)
    save(_chinese_clip(sizes, text), folder / "model.safetensors", seed)
    return folder


def _chinese_clip(sizes: Sizes, text: Config) -> Shapes:
    found = {n: s for n, s in clip.shapes(sizes, 9).items() if not n.startswith("text")}
    found |= shapes(text, "text_model.")
    found["text_projection.weight"] = (sizes.embedding, text["hidden_size"])
    return found


def write_m_clip(
    folder: Path, model: str = "xlm-roberta-large", config: Config | None = None, seed: int = 0
) -> Path:
    """M-CLIP: a model's name, the model, and a linear layer.

    Args:
        folder: Made if it is not there; a tokenizer in it is kept.
        model: What config.json calls its texts' model.
        config: That model's; None is the one of full size.
        seed: Of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(config or NAMED[model])
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        config.setdefault("vocab_size", write_tokens(folder, config))
    width, out = config["hidden_size"], 20 if config["hidden_size"] < 100 else 512
    write_json(
        folder / "config.json",
        {"architectures": ["MultilingualCLIP"], "model_type": "M-CLIP", "modelBase": model,
         "numDims": out, "transformerDimensions": width},
    )  # fmt: skip
    found = shapes(config, "transformer.")
    add(found, "LinearTransformation", out, width)
    save(found, folder / "model.safetensors", seed)
    return folder


def write_sentence_bert(
    folder: Path,
    model: str = "distilbert",
    pooling: str = "mean_tokens",
    dense: Config | None = None,
    seed: int = 0,
    out: int = 20,
) -> Path:
    """sentence-transformers' Transformer, Pooling and Dense.

    Args:
        folder: Made if it is not there; a tokenizer in it is kept.
        model: Of ``MODELS`` or ``NAMED``.
        pooling: Which mode is on.
        dense: More of the last layer's config.json.
        seed: Of the weights.
        out: The last layer's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(MODELS[model] if model in MODELS else NAMED[model])
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        config.setdefault("vocab_size", write_tokens(folder, config))
    kind = {"distilbert": "DistilBertModel", "xlm-roberta": "XLMRobertaModel"}
    config["architectures"] = [kind.get(config["model_type"], "BertModel")]
    write_json(folder / "config.json", config)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 18, "do_lower_case": False})
    width = config.get("hidden_size", config.get("dim"))
    names = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    package = "sentence_transformers.models"
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{package}.{name}"}
        for index, (path, name) in enumerate(names.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path in ("1_Pooling", "2_Dense"):
        (folder / path).mkdir(exist_ok=True)
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width}
        | {f"pooling_mode_{mode}": mode == pooling for mode in modes},
    )
    given = {
        "in_features": width,
        "out_features": out,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    } | (dense or {})
    write_json(folder / "2_Dense" / "config.json", given)
    layer: Shapes = {"linear.weight": (out, width)}
    if given["bias"]:
        layer["linear.bias"] = (out,)
    save(layer, folder / "2_Dense" / "model.safetensors", seed)
    save(shapes(config, ""), folder / "model.safetensors", seed)
    return folder


def shapes(config: Config, name: str) -> Shapes:
    """Names and shapes of a model's tensors, as transformers writes them."""
    distil = config["model_type"] == "distilbert"
    width, wide, layers = (
        config[key]
        for key in (
            ("dim", "hidden_dim", "n_layers")
            if distil
            else ("hidden_size", "intermediate_size", "num_hidden_layers")
        )
    )
    place = f"{name}embeddings"
    found: Shapes = {
        f"{place}.word_embeddings.weight": (config["vocab_size"], width),
        f"{place}.position_embeddings.weight": (config["max_position_embeddings"], width),
    }
    if not distil:
        found[f"{place}.token_type_embeddings.weight"] = (config.get("type_vocab_size", 2), width)
    add(found, f"{place}.LayerNorm", width)
    for index in range(layers):
        if distil:
            layer = f"{name}transformer.layer.{index}"
            for part in "qkv":
                add(found, f"{layer}.attention.{part}_lin", width, width)
            add(found, f"{layer}.attention.out_lin", width, width)
            add(found, f"{layer}.sa_layer_norm", width)
            add(found, f"{layer}.ffn.lin1", wide, width)
            add(found, f"{layer}.ffn.lin2", width, wide)
            add(found, f"{layer}.output_layer_norm", width)
            continue
        layer = f"{name}encoder.layer.{index}"
        for part in ("query", "key", "value"):
            add(found, f"{layer}.attention.self.{part}", width, width)
        add(found, f"{layer}.attention.output.dense", width, width)
        add(found, f"{layer}.attention.output.LayerNorm", width)
        add(found, f"{layer}.intermediate.dense", wide, width)
        add(found, f"{layer}.output.dense", width, wide)
        add(found, f"{layer}.output.LayerNorm", width)
    return found


def save(found: Shapes, path: Path, seed: int) -> None:
    """Weights of these shapes."""
    save_file({name: _weights(name, shape, seed) for name, shape in found.items()}, path)


def _weights(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Weights that keep activations of order one; each seeded by its own name."""
    if name == "logit_scale":
        return np.array(np.log(100), np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    normal = rng.standard_normal(shape, np.float32)
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + np.float32(0.2) * normal
    if len(shape) == 1:
        return np.float32(0.1) * normal
    if "embed" in name and "patch" not in name:
        return np.float32(0.5) * normal
    return normal / np.float32(np.sqrt(np.prod(shape[1:])))
