"""transformers' CLIPModel, MetaClip2Model and SiglipModel (models/*/modeling_*.py).

Which of them it is, and how many layers it has, is read off the tensors; the rest off config.json
and the processor's file, with the defaults of configuration_*.py and image_processing_*.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from . import bert_texts
from .numerics import (
    ACTIVATIONS,
    OPENAI_MEAN,
    OPENAI_STD,
    Array,
    Forward,
    Pixels,
    Weights,
    attention,
    causal_mask,
    patches,
    product,
    unit,
)

# By family and tower: heads, epsilon, activation.
_USUAL: dict[tuple[bool, str], tuple[int, float, str]] = {
    (False, "vision"): (12, 1e-5, "quick_gelu"),
    (False, "text"): (8, 1e-5, "quick_gelu"),
    (True, "vision"): (12, 1e-6, "gelu_pytorch_tanh"),
    (True, "text"): (12, 1e-6, "gelu_pytorch_tanh"),
}
_CLIP_END = 49407


@dataclass(frozen=True)
class _Tower:
    """What the tensors of a tower do not say."""

    heads: int
    epsilon: float
    activate: Callable[[Array], Array]

    @classmethod
    def read(cls, section: dict[str, Any], siglip: bool, tower: str) -> "_Tower":
        heads, epsilon, activation = _USUAL[siglip, tower]
        return cls(
            section.get("num_attention_heads", heads),
            section.get("layer_norm_eps", epsilon),
            ACTIVATIONS[section.get("hidden_act", activation)],
        )


def forwards(checkpoint: Checkpoint) -> dict[str, Forward]:
    """Towers by name: (a batch of its input) -> (N, D) unit rows."""
    w, config = Weights(checkpoint.tensors), checkpoint.config
    found: dict[str, Forward] = {}
    if "vision_model.embeddings.patch_embedding.weight" in w:
        siglip = "vision_model.head.probe" in w
        tower = _Tower.read(_section(config, "vision_config"), siglip, "vision")
        pixels = _pixels(checkpoint, siglip)
        found["vision"] = partial(_siglip_pixels if siglip else _clip_pixels, w, tower, pixels)
    if (texts := bert_texts.forward(checkpoint, w)) is not None:
        found["text"] = texts
    elif "text_model.embeddings.token_embedding.weight" in w:
        siglip, section = "text_model.head.weight" in w, _section(config, "text_config")
        tower = _Tower.read(section, siglip, "text")
        if siglip:
            found["text"] = partial(_siglip_ids, w, tower)
        else:
            end = section.get("eos_token_id", _CLIP_END)
            end = end[0] if isinstance(end, list) else end
            # transformers takes a CLIP's 2, a mistake in early configs, to mean the highest id.
            highest = end == 2 and not _is_metaclip_2(config)
            found["text"] = partial(_clip_ids, w, tower, None if highest else end)
    return found


def _is_metaclip_2(config: dict[str, Any]) -> bool:
    named = [*(config.get("architectures") or ()), config.get("model_type")]
    return any(str(name).lower().replace("_", "").startswith("metaclip2") for name in named)


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A tower's part; of a tower alone all of it. Early configs' "..._dict" has the last word."""
    if (old := config.get(f"{name}_dict")) is not None:
        return dict(old)
    if "vision_config" in config or "text_config" in config:
        return config.get(name) or {}
    return config


def _pixels(checkpoint: Checkpoint, siglip: bool) -> Pixels:
    given = checkpoint.json("preprocessor_config.json")
    if given is None:
        given = (checkpoint.json("processor_config.json") or {})["image_processor"]
    kind = given.get("image_processor_type") or given.get("feature_extractor_type")
    half = "Siglip" in kind if kind else siglip
    scale = given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0
    if not given.get("do_normalize", True):
        return Pixels(scale, np.zeros(3), np.ones(3))
    mean = given.get("image_mean", [0.5] * 3 if half else OPENAI_MEAN)
    std = given.get("image_std", [0.5] * 3 if half else OPENAI_STD)
    return Pixels(scale, np.array(mean), np.array(std))


def _clip_pixels(w: Weights, tower: _Tower, given: Pixels, pixels: NDArray[np.uint8]) -> Array:
    name = "vision_model.embeddings"
    tokens = patches(given.normalised(pixels), w[f"{name}.patch_embedding.weight"])
    first = np.broadcast_to(w[f"{name}.class_embedding"], (len(tokens), 1, tokens.shape[2]))
    x = np.concatenate([first, tokens], axis=1) + w[f"{name}.position_embedding.weight"]
    x = w.norm(x, "vision_model.pre_layrnorm", tower.epsilon)
    x = _encode(w, x, "vision_model", tower, mask=None)
    pooled = w.norm(x[:, 0], "vision_model.post_layernorm", tower.epsilon)
    return unit(pooled @ w["visual_projection.weight"].T)


def _clip_ids(w: Weights, tower: _Tower, end: int | None, ids: NDArray[np.int64]) -> Array:
    x = _encode(w, _embed(w, ids), "text_model", tower, causal_mask(ids.shape[1]))
    x = w.norm(x, "text_model.final_layer_norm", tower.epsilon)
    places = ids.argmax(axis=1) if end is None else (ids == end).argmax(axis=1)
    return unit(x[np.arange(len(ids)), places] @ w["text_projection.weight"].T)


def _siglip_pixels(w: Weights, tower: _Tower, given: Pixels, pixels: NDArray[np.uint8]) -> Array:
    name = "vision_model.embeddings"
    x = patches(given.normalised(pixels), w[f"{name}.patch_embedding.weight"])
    x = x + w[f"{name}.patch_embedding.bias"] + w[f"{name}.position_embedding.weight"]
    x = _encode(w, x, "vision_model", tower, mask=None)
    x = w.norm(x, "vision_model.post_layernorm", tower.epsilon)
    return unit(_attention_pool(w, x, tower)[:, 0])


def _siglip_ids(w: Weights, tower: _Tower, ids: NDArray[np.int64]) -> Array:
    x = _encode(w, _embed(w, ids), "text_model", tower, mask=None)
    x = w.norm(x, "text_model.final_layer_norm", tower.epsilon)
    return unit(w.linear(x[:, -1], "text_model.head"))


def _attention_pool(w: Weights, x: Array, tower: _Tower) -> Array:
    """(N, T, W) -> (N, 1, W), its projections packed as torch.nn.MultiheadAttention does."""
    name = "vision_model.head"
    kernels = np.split(w[f"{name}.attention.in_proj_weight"], 3)
    biases = np.split(w[f"{name}.attention.in_proj_bias"], 3)
    probe = np.repeat(w[f"{name}.probe"], len(x), axis=0)
    query, key, value = (
        product(given, kernel.T) + bias
        for given, kernel, bias in zip((probe, x, x), kernels, biases, strict=True)
    )
    mixed = attention(query, key, value, tower.heads, mask=None)
    pooled = w.linear(mixed, f"{name}.attention.out_proj")
    normed = w.norm(pooled, f"{name}.layernorm", tower.epsilon)
    return pooled + _mlp(w, normed, f"{name}.mlp", tower)


def _embed(w: Weights, ids: NDArray[np.int64]) -> Array:
    name = "text_model.embeddings"
    x = w.rows(f"{name}.token_embedding.weight", ids)
    return x + w[f"{name}.position_embedding.weight"][: ids.shape[1]]


def _encode(w: Weights, x: Array, name: str, tower: _Tower, mask: Array | None) -> Array:
    index = 0
    while f"{(layer := f'{name}.encoder.layers.{index}')}.layer_norm1.weight" in w:
        normed = w.norm(x, f"{layer}.layer_norm1", tower.epsilon)
        query, key, value = (w.linear(normed, f"{layer}.self_attn.{p}_proj") for p in "qkv")
        mixed = attention(query, key, value, tower.heads, mask)
        x = x + w.linear(mixed, f"{layer}.self_attn.out_proj")
        normed = w.norm(x, f"{layer}.layer_norm2", tower.epsilon)
        x = x + _mlp(w, normed, f"{layer}.mlp", tower)
        index += 1
    return x


def _mlp(w: Weights, x: Array, name: str, tower: _Tower) -> Array:
    return w.linear(tower.activate(w.linear(x, f"{name}.fc1")), f"{name}.fc2")
