"""Checkpoints with seeded random weights, in Hugging Face's layout, of any size.

What they answer means nothing, but it is always the same, and it takes a converter, a
runtime or a benchmark through the same work as trained weights would. No PyTorch.

    python -m tests.seeded.clip FOLDER                 # a tiny one, in a second
    python -m tests.seeded.clip FOLDER --size ViT-B/32
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tower:
    """Width, MLP width, layers and heads of a transformer."""

    width: int
    mlp: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Sizes:
    """A CLIPModel's sizes; ``vocabulary`` 0 gives the token table as many rows as ids."""

    vision: Tower
    image: int
    patch: int
    text: Tower
    context: int
    embedding: int
    activation: str = "quick_gelu"
    legacy_end: bool = False
    vocabulary: int = 0


# Rows of CLIP's own token table, two fifths of a text tower; the tokenizer here knows fewer ids.
_CLIP = 49408

SIZES = {
    "tiny": Sizes(Tower(48, 96, 3, 3), 32, 8, Tower(32, 64, 2, 2), 24, 20),
    "ViT-B/32": Sizes(
        Tower(768, 3072, 12, 12), 224, 32, Tower(512, 2048, 12, 8), 77, 512, vocabulary=_CLIP
    ),
    "ViT-B/16": Sizes(
        Tower(768, 3072, 12, 12), 224, 16, Tower(512, 2048, 12, 8), 77, 512, vocabulary=_CLIP
    ),
    "ViT-L/14": Sizes(
        Tower(1024, 4096, 24, 16), 224, 14, Tower(768, 3072, 12, 12), 77, 768, vocabulary=_CLIP
    ),
}

_WORDS = (  # noqa: SIM905
    "a an the of in on photo picture image wild nature cat dog bird fish car flower red green "
    "blue square circle triangle sunset ocean beach happy two three"
).split()


def write_checkpoint(
    folder: Path,
    sizes: Sizes = SIZES["tiny"],
    seed: int = 0,
    dtype: Any = np.float32,
    tokenizer: Path | None = None,
) -> Path:
    """Writes a checkpoint: config, processor, tokenizer and weights.

    Args:
        folder: Made if it is not there.
        sizes: Of the model.
        seed: Of the weights.
        dtype: Of the weights on disk.
        tokenizer: A tokenizer.json to take, such as CLIP's own; None makes a small one.

    Returns:
        ``folder``.
    """
    from safetensors.numpy import save_file  # here, since runtime tests take sizes from this file

    folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(tokenizer.read_text("utf-8")) if tokenizer else make_tokenizer()
    write_json(folder / "tokenizer.json", found)
    ids = len(found["model"]["vocab"])
    write_json(folder / "config.json", config(sizes, ids))
    write_json(folder / "preprocessor_config.json", processor(sizes.image))
    tensors = {
        name: _weights(name, shape, seed).astype(dtype)
        for name, shape in shapes(sizes, sizes.vocabulary or ids).items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def config(sizes: Sizes, ids: int) -> dict[str, Any]:
    """config.json; ``ids`` is how many the tokenizer has."""

    def tower(t: Tower) -> dict[str, Any]:
        return {
            "hidden_size": t.width,
            "intermediate_size": t.mlp,
            "num_hidden_layers": t.layers,
            "num_attention_heads": t.heads,
            "hidden_act": sizes.activation,
            "projection_dim": sizes.embedding,
        }

    end = 2 if sizes.legacy_end else ids - 1
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes.embedding,
        "vision_config": tower(sizes.vision)
        | {"image_size": sizes.image, "patch_size": sizes.patch},
        "text_config": tower(sizes.text)
        | {
            "vocab_size": sizes.vocabulary or ids,
            "max_position_embeddings": sizes.context,
            "bos_token_id": ids - 2,
            "eos_token_id": end,
        },
    }


def processor(size: int) -> dict[str, Any]:
    """preprocessor_config.json, as CLIPImageProcessor writes it."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }


def shapes(sizes: Sizes, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a CLIPModel's tensors, as transformers writes them."""
    vision, text = sizes.vision.width, sizes.text.width
    found: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "vision_model.embeddings.class_embedding": (vision,),
        "vision_model.embeddings.patch_embedding.weight": (vision, 3, sizes.patch, sizes.patch),
        "vision_model.embeddings.position_embedding.weight": (
            1 + (sizes.image // sizes.patch) ** 2,
            vision,
        ),
        "visual_projection.weight": (sizes.embedding, vision),
        "text_model.embeddings.token_embedding.weight": (vocabulary, text),
        "text_model.embeddings.position_embedding.weight": (sizes.context, text),
        "text_projection.weight": (sizes.embedding, text),
    }

    def add(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    add("vision_model.pre_layrnorm", vision)
    add("vision_model.post_layernorm", vision)
    add("text_model.final_layer_norm", text)
    for model, tower in (("vision_model", sizes.vision), ("text_model", sizes.text)):
        for layer in (f"{model}.encoder.layers.{index}" for index in range(tower.layers)):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                add(f"{layer}.self_attn.{part}", tower.width, tower.width)
            add(f"{layer}.mlp.fc1", tower.mlp, tower.width)
            add(f"{layer}.mlp.fc2", tower.width, tower.mlp)
            add(f"{layer}.layer_norm1", tower.width)
            add(f"{layer}.layer_norm2", tower.width)
    return found


def make_tokenizer() -> dict[str, Any]:
    """tokenizer.json in CLIP's form: bytes, a few words' merges, start and end token."""
    letters = list(_byte_letters())
    vocab = letters + [f"{letter}</w>" for letter in letters]
    merges: list[list[str]] = []
    for word in _WORDS:
        left, rest = word[0], [*word[1:-1], f"{word[-1]}</w>"]
        for right in rest if len(word) > 1 else []:
            if [left, right] not in merges:
                merges.append([left, right])
                vocab.append(left + right)
            left += right
    ids = {token: index for index, token in enumerate(dict.fromkeys(vocab))}
    start, end = "<|startoftext|>", "<|endoftext|>"
    ids |= {start: len(ids), end: len(ids) + 1}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "special": True}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, "normalized": token == start, **special}
            for token in (start, end)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Removed",
                    "invert": True,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": True,
                },
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, ids[end]],
            "cls": [start, ids[start]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": end,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": ids,
            "merges": merges,
        },
    }


def _byte_letters() -> str:
    """The 256 printable letters that stand for bytes in byte-level BPE (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(map(chr, printable)) + "".join(chr(256 + i) for i in range(len(others)))


def _weights(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Weights that keep activations of order one; each seeded by its own name."""
    if name == "logit_scale":
        return np.array(np.log(100.0))
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if "norm" in name or "layrnorm" in name:
        return 0.2 * normal + name.endswith("weight")
    if name.endswith("bias"):
        return 0.1 * normal
    if "embedding" in name and "patch" not in name:
        return 0.5 * normal
    return normal / np.sqrt(np.prod(shape[1:]))


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, such as CLIP's own")
    arguments = parser.parse_args()
    sizes, tokenizer = SIZES[arguments.size], arguments.tokenizer
    print(write_checkpoint(arguments.folder, sizes, arguments.seed, tokenizer=tokenizer))
