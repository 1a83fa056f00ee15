"""Checkpoints with seeded random weights in OpenCLIP's layout: ViTs, ResNets, SigLIP, ConvNeXts.

As tests/seeded/clip.py, which makes Hugging Face's.

    python -m tests.seeded.open_clip FOLDER --size RN50
    python -m tests.seeded.open_clip FOLDER --size MobileCLIP2-S0 --tokenizer tokenizer.json
"""

import argparse
import copy
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from . import convolutional, eva
from .clip import make_tokenizer, write_json
from .shapes import Shapes, add, add_timm_block, add_timm_pooling
from .siglip import make_unigram_tokenizer
from .word_pieces import word_piece_vocabulary, write_word_pieces

Config = dict[str, Any]

_TEXT = {"context_length": 24, "width": 32, "heads": 2, "layers": 2}
_VISION = {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 16, "layers": 3}
_CLIP_TEXT = {"context_length": 77, "width": 512, "heads": 8, "layers": 12}
_SIGLIP_TEXT = {
    "hf_tokenizer_name": "someone/siglip",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
_CLIPA_TEXT = {
    "hf_tokenizer_name": "bert-base-uncased",
    "tokenizer_kwargs": {"strip_sep_token": True},
    "pool_type": "last",
    "no_causal_mask": True,
}
# Of timm's plain ViTs by their sizes' names.
_WIDTHS = {"base": 768, "small": 48}
_MOBILECLIP_VIT = {"image_size": 64, "timm_pool": "token", "timm_proj": None}
_EVA = {"image_size": 32, "timm_pool": "token", "timm_proj": None}
_PE = _EVA | {"timm_pool": "map"}
_SIGLIP_VISION = {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}

# model_cfg by name; vocab_size is the tokenizer's. The full-size ones are open_clip's own.
CONFIGS: dict[str, Config] = {
    "tiny": {"embed_dim": 20, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "tiny-quickgelu": {
        "embed_dim": 20,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": _VISION | {"image_size": [30, 30], "patch_size": 7, "mlp_ratio": 2.5},
        "text_cfg": _TEXT | {"act_kwargs": None, "layers": 1},
    },
    "tiny-average": {
        "embed_dim": 12,
        "vision_cfg": _VISION
        | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
        "text_cfg": _TEXT | {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}},
    },
    "tiny-average-of-normed": {
        "embed_dim": 12,
        "vision_cfg": _VISION | {"pool_type": "avg", "layers": 1},
        "text_cfg": _TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 20,
        "vision_cfg": {"image_size": 64, "layers": [2, 1, 2, 1], "width": 8, "head_width": 32},
        "text_cfg": _TEXT,
    },
    "tiny-last": {
        "embed_dim": 20,
        "vision_cfg": _VISION | {"layers": 1},
        "text_cfg": _TEXT | _SIGLIP_TEXT,
    },
    "tiny-clipa": {
        "embed_dim": 20,
        "vision_cfg": _VISION
        | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True, "patch_size": 7},
        "text_cfg": _TEXT | _CLIPA_TEXT | {"context_length": 32},
    },
    "tiny-siglip": {
        "embed_dim": 48,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": _SIGLIP_VISION
        | {"image_size": 32, "timm_model_name": "vit_base_patch8_siglip_32"},
        "text_cfg": _TEXT | _SIGLIP_TEXT | {"context_length": 16},
    },
    "tiny-convnext": {
        "embed_dim": 20,
        "vision_cfg": {"image_size": 64, "timm_model_name": "convnext_seeded", "timm_pool": ""},
        "text_cfg": _TEXT,
    },
    "tiny-convnext-mlp": {
        "embed_dim": 20,
        "vision_cfg": {"image_size": 64, "timm_model_name": "convnext_seeded", "timm_pool": "",
                       "timm_proj": "mlp"},
        "text_cfg": _TEXT,
    },
    "tiny-mobileclip": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "timm_model_name": "fastvit_seeded", "timm_proj": None},
        "text_cfg": _TEXT | {"no_causal_mask": True},
    },
    "tiny-mobileclip-newer": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": {"image_size": 128, "timm_model_name": "fastvit_newer", "timm_proj": None},
        "text_cfg": _TEXT | {"no_causal_mask": True},
    },
    "tiny-mobileclip-b": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _MOBILECLIP_VIT | {"timm_model_name": "vit_base_mci_seeded"},
        "text_cfg": _TEXT,
    },
    "tiny-mobileclip-l": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _MOBILECLIP_VIT | {"timm_model_name": "vit_large_patch8_clip_seeded"},
        "text_cfg": _TEXT | {"no_causal_mask": True},
    },
    "tiny-eva01": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _EVA | {"timm_model_name": "eva_giant_patch8_seeded"},
        "text_cfg": _TEXT,
    },
    "tiny-eva02": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _EVA | {"timm_model_name": "eva02_base_patch8_clip_seeded"},
        "text_cfg": _TEXT,
    },
    "tiny-eva02-e": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _EVA | {"timm_model_name": "eva02_enormous_patch7_clip_seeded"},
        "text_cfg": _TEXT,
    },
    "tiny-pe": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _PE | {"timm_model_name": "vit_pe_core_tiny_patch8_seeded"},
        "text_cfg": _TEXT | {"context_length": 16},
    },
    "tiny-pe-g": {
        "embed_dim": 20,
        "custom_text": True,
        "vision_cfg": _PE | {"timm_model_name": "vit_pe_core_gigantic_patch7_seeded"},
        "text_cfg": _TEXT,
    },
    "ViT-B-32": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": _CLIP_TEXT,
    },
    "RN50": {
        "embed_dim": 1024,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
        "text_cfg": _CLIP_TEXT,
    },
    "RN101": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": [3, 4, 23, 3], "width": 64, "patch_size": None},
        "text_cfg": _CLIP_TEXT,
    },
    "RN50x4": {
        "embed_dim": 640,
        "vision_cfg": {"image_size": 288, "layers": [4, 6, 10, 6], "width": 80, "patch_size": None},
        "text_cfg": _CLIP_TEXT | {"width": 640, "heads": 10},
    },
    "convnext_base_w": {
        "embed_dim": 640,
        "vision_cfg": {"timm_model_name": "convnext_base", "timm_pool": "", "image_size": 256},
        "text_cfg": _CLIP_TEXT | {"width": 640, "heads": 10},
    },
    "convnext_large_d_320": {
        "embed_dim": 768,
        "vision_cfg": {"timm_model_name": "convnext_large", "timm_pool": "", "timm_proj": "mlp",
                       "image_size": 320},
        "text_cfg": _CLIP_TEXT | {"width": 768, "heads": 12, "layers": 16},
    },
    "ViT-B-16-SigLIP": {
        "embed_dim": 768,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": _SIGLIP_VISION
        | {"image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224"},
        "text_cfg": _SIGLIP_TEXT
        | {"context_length": 64, "width": 768, "heads": 12, "layers": 12},
    },
    "ViT-B-32-SigLIP2-256": {
        "embed_dim": 768,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": _SIGLIP_VISION
        | {"image_size": 256, "timm_model_name": "vit_base_patch32_siglip_256"},
        "text_cfg": _SIGLIP_TEXT
        | {"context_length": 64, "width": 768, "heads": 12, "layers": 12}
        | {"act_kwargs": {"approximate": "tanh"}},
    },
}  # fmt: skip


def full_size(config: Config) -> Config:
    """A model_cfg with the defaults that the makers here want filled in."""
    text = _CLIP_TEXT | config["text_cfg"]
    return config | {"vision_cfg": {"image_size": 224} | config["vision_cfg"], "text_cfg": text}


def write_checkpoint(
    folder: Path,
    model: str | Config = "tiny",
    preprocess: Config | None = None,
    seed: int = 0,
    tokenizer: Config | None = None,
) -> Path:
    """Writes a checkpoint: config, tokenizer and weights.

    Args:
        folder: Made if it is not there.
        model: A name of ``CONFIGS``, or a model_cfg of one's own.
        preprocess: preprocess_cfg; None leaves it empty.
        seed: Of the weights.
        tokenizer: tokenizer.json; None makes one of a few words. CLIPA's is a vocab.txt, which
            ``folder`` may have already.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(CONFIGS[model] if isinstance(model, str) else model)
    config["text_cfg"]["vocab_size"] = _write_tokenizer(folder, config["text_cfg"], tokenizer)
    write_json(
        folder / "open_clip_config.json",
        {"model_cfg": config, "preprocess_cfg": preprocess or {}},
    )
    tensors = {name: _weights(name, shape, seed) for name, shape in shapes(config).items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def _write_tokenizer(folder: Path, text: Config, tokenizer: Config | None) -> int:
    """Returns its rows."""
    if "strip_sep_token" in text.get("tokenizer_kwargs", {}):
        if not (folder / "vocab.txt").is_file():
            write_word_pieces(folder, word_piece_vocabulary(), do_lower_case=True,
                              tokenizer_class="BertTokenizer")  # fmt: skip
        rows = len((folder / "vocab.txt").read_text("utf-8").splitlines())
        return max(rows, text.get("vocab_size", 0))
    own = "hf_tokenizer_name" in text
    tokenizer = tokenizer or (make_unigram_tokenizer() if own else make_tokenizer())
    write_json(folder / "tokenizer.json", tokenizer)
    if own:
        tokens = {"tokenizer_class": "T5Tokenizer", "pad_token": "</s>", "eos_token": "</s>",
                  "unk_token": "<unk>", "extra_ids": 0}  # fmt: skip
        write_json(folder / "tokenizer_config.json", tokens)
    return len(tokenizer["model"]["vocab"])


def shapes(config: Config) -> Shapes:
    """Names and shapes of a model's tensors, as open_clip writes them."""
    found: Shapes = {"logit_scale": ()}
    if "init_logit_bias" in config:
        found["logit_bias"] = ()
    vision = config["vision_cfg"]
    if any(kind.add_trunk(found, config["embed_dim"], vision) for kind in (convolutional, eva)):
        pass
    elif vision.get("timm_proj") == "linear":
        _add_plain_trunk(found, config["embed_dim"], vision)
    elif "timm_model_name" in vision:
        _add_trunk(found, config["embed_dim"], vision)
    elif isinstance(vision["layers"], list):
        _add_resnet(found, config["embed_dim"], vision)
    else:
        _add_vit(found, config["embed_dim"], vision)
    _add_text(found, config)
    return found


def _add_text(found: Shapes, config: Config) -> None:
    text, out = config["text_cfg"], config["embed_dim"]
    width = text["width"]
    name = "text." if config.get("custom_text") else ""
    found[f"{name}token_embedding.weight"] = (text["vocab_size"], width)
    found[f"{name}positional_embedding"] = (text["context_length"], width)
    _add_blocks(found, f"{name}transformer", width, text["layers"], 4.0)
    add(found, f"{name}ln_final", width)
    if text.get("proj_bias"):
        add(found, f"{name}text_projection", out, width)
    else:
        found[f"{name}text_projection"] = (width, out)


def _add_vit(found: Shapes, out: int, vision: Config) -> None:
    width, patch = vision["width"], vision["patch_size"]
    size = (
        vision["image_size"][0] if isinstance(vision["image_size"], list) else vision["image_size"]
    )
    found["visual.conv1.weight"] = (width, 3, patch, patch)
    found["visual.class_embedding"] = (width,)
    found["visual.positional_embedding"] = (1 + (size // patch) ** 2, width)
    if not vision.get("no_ln_pre"):
        add(found, "visual.ln_pre", width)
    ratio = vision.get("mlp_ratio", 4.0)
    _add_blocks(found, "visual.transformer", width, vision["layers"], ratio)
    add(found, "visual.ln_post", width)
    found["visual.proj"] = (width, out)


def _add_blocks(found: Shapes, name: str, width: int, layers: int, ratio: float) -> None:
    for layer in (f"{name}.resblocks.{index}" for index in range(layers)):
        found[f"{layer}.attn.in_proj_weight"] = (3 * width, width)
        found[f"{layer}.attn.in_proj_bias"] = (3 * width,)
        add(found, f"{layer}.attn.out_proj", width, width)
        add(found, f"{layer}.mlp.c_fc", int(width * ratio), width)
        add(found, f"{layer}.mlp.c_proj", width, int(width * ratio))
        add(found, f"{layer}.ln_1", width)
        add(found, f"{layer}.ln_2", width)


def _add_resnet(found: Shapes, out: int, vision: Config) -> None:
    width, size = vision["width"], vision["image_size"]
    half, wide, into = width // 2, width * 32, width

    def convolution(name: str, norm: str, *shape: int) -> None:
        found[f"{name}.weight"] = shape
        add(found, norm, shape[0])
        found[f"{norm}.running_mean"] = found[f"{norm}.running_var"] = shape[:1]
        found[f"{norm}.num_batches_tracked"] = ()

    convolution("visual.conv1", "visual.bn1", half, 3, 3, 3)
    convolution("visual.conv2", "visual.bn2", half, half, 3, 3)
    convolution("visual.conv3", "visual.bn3", width, half, 3, 3)
    for number, count in enumerate(vision["layers"], start=1):
        planes = width * 2 ** (number - 1)
        for index in range(count):
            name = f"visual.layer{number}.{index}"
            convolution(f"{name}.conv1", f"{name}.bn1", planes, into, 1, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", planes, planes, 3, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", 4 * planes, planes, 1, 1)
            if index == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", 4 * planes, into, 1, 1)
            into = 4 * planes
    found["visual.attnpool.positional_embedding"] = (1 + (size // 32) ** 2, wide)
    for part in "qkv":
        add(found, f"visual.attnpool.{part}_proj", wide, wide)
    add(found, "visual.attnpool.c_proj", out, wide)


def _add_trunk(found: Shapes, width: int, vision: Config) -> None:
    name, size = "visual.trunk", vision["image_size"]
    patch = int(vision["timm_model_name"].partition("_patch")[2].partition("_")[0])
    _add_trunk_blocks(found, width, size, patch, 0)
    add_timm_pooling(found, f"{name}.attn_pool", width)


def _add_trunk_blocks(found: Shapes, width: int, size: int, patch: int, more: int) -> None:
    name = "visual.trunk"
    found[f"{name}.patch_embed.proj.weight"] = (width, 3, patch, patch)
    found[f"{name}.patch_embed.proj.bias"] = (width,)
    found[f"{name}.pos_embed"] = (1, more + (size // patch) ** 2, width)
    add(found, f"{name}.norm", width)
    for layer in (f"{name}.blocks.{index}" for index in range(12 if width > 100 else 2)):
        add_timm_block(found, layer, width)


def _add_plain_trunk(found: Shapes, out: int, vision: Config) -> None:
    """timm's ViT with a class token, and OpenCLIP's projection."""
    size, width = vision["image_size"], _WIDTHS[vision["timm_model_name"].split("_")[1]]
    patch = int(vision["timm_model_name"].partition("_patch")[2].partition("_")[0])
    found["visual.trunk.cls_token"] = (1, 1, width)
    _add_trunk_blocks(found, width, size, patch, 1)
    found["visual.head.proj.weight"] = (out, width)


def _weights(name: str, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    """Weights that keep activations of order one; each seeded by its own name."""
    if name == "logit_scale":
        return np.array(np.log(10 if seed else 100), np.float32)
    if name == "logit_bias":
        return np.array(-10, np.float32)
    if name.endswith("num_batches_tracked"):
        return np.array(1, np.int64)
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(normal)
    elif name.endswith("gamma"):
        # With more, forty blocks that no normalisation follows amplify float32's own error.
        values = (0.3 if len(shape) == 1 else 0.1) * normal
    elif len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.2 * normal
    elif len(shape) == 1:
        values = 0.1 * normal
    elif "embed" in name and "patch" not in name:
        values = 0.5 * normal
    else:
        values = normal / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def main() -> None:
    from bareclip_export.open_clip_models import models

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="tiny", help="One of these, or of open_clip's models.")
    parser.add_argument("--tokenizer", type=Path, help="CLIP's own tokenizer.json.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model, preprocess = given.size, None
    if model not in CONFIGS:
        known = models()[model]
        [published, *_] = known["tags"].values()
        model, preprocess = full_size(known["model_cfg"]), published.get("preprocess_cfg")
    tokenizer = json.loads(given.tokenizer.read_text("utf-8")) if given.tokenizer else None
    print(write_checkpoint(given.folder, model, preprocess, given.seed, tokenizer))


if __name__ == "__main__":
    main()
