"""transformers' CLIPModel and SiglipModel (models/clip and models/siglip, modeling_*.py)."""

import numpy as np
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe

from ..layouts.huggingface_config import TextConfig, TransformerConfig, VisionConfig
from .numerics import (
    ACTIVATIONS,
    Array,
    Weights,
    attention,
    causal_mask,
    normalised,
    patches,
    product,
    unit,
)


def clip_pixels(
    w: Weights, config: VisionConfig, recipe: ImageRecipe, pixels: NDArray[np.uint8]
) -> Array:
    """What a CLIPModel answers: (N, size, size, 3) uint8 -> (N, D), unit rows."""
    name = "vision_model.embeddings"
    tokens = patches(normalised(pixels, recipe), w[f"{name}.patch_embedding.weight"])
    first = np.broadcast_to(w[f"{name}.class_embedding"], (len(tokens), 1, tokens.shape[2]))
    x = np.concatenate([first, tokens], axis=1) + w[f"{name}.position_embedding.weight"]
    x = w.norm(x, "vision_model.pre_layrnorm", config.epsilon)
    x = _encode(w, x, "vision_model", config, mask=None)
    pooled = w.norm(x[:, 0], "vision_model.post_layernorm", config.epsilon)
    return unit(pooled @ w["visual_projection.weight"].T)


def clip_ids(w: Weights, config: TextConfig, ids: NDArray[np.int64]) -> Array:
    """What a CLIPModel answers: (N, T) token ids -> (N, D), unit rows."""
    x = _encode(w, _embed(w, ids), "text_model", config, causal_mask(ids.shape[1]))
    x = w.norm(x, "text_model.final_layer_norm", config.epsilon)
    end = config.end_id
    places = ids.argmax(axis=1) if end is None else (ids == end).argmax(axis=1)
    return unit(x[np.arange(len(ids)), places] @ w["text_projection.weight"].T)


def siglip_pixels(
    w: Weights, config: VisionConfig, recipe: ImageRecipe, pixels: NDArray[np.uint8]
) -> Array:
    """What a SiglipModel answers: (N, size, size, 3) uint8 -> (N, D), unit rows."""
    name = "vision_model.embeddings"
    x = patches(normalised(pixels, recipe), w[f"{name}.patch_embedding.weight"])
    x = x + w[f"{name}.patch_embedding.bias"] + w[f"{name}.position_embedding.weight"]
    x = _encode(w, x, "vision_model", config, mask=None)
    x = w.norm(x, "vision_model.post_layernorm", config.epsilon)
    return unit(_attention_pool(w, x, config)[:, 0])


def siglip_ids(w: Weights, config: TextConfig, ids: NDArray[np.int64]) -> Array:
    """What a SiglipModel answers: (N, T) token ids -> (N, D), unit rows."""
    x = _encode(w, _embed(w, ids), "text_model", config, mask=None)
    x = w.norm(x, "text_model.final_layer_norm", config.epsilon)
    return unit(w.linear(x[:, -1], "text_model.head"))


def _attention_pool(w: Weights, x: Array, config: TransformerConfig) -> Array:
    """(N, T, W) -> (N, 1, W), its projections packed as torch.nn.MultiheadAttention does."""
    name = "vision_model.head"
    kernels = np.split(w[f"{name}.attention.in_proj_weight"], 3)
    biases = np.split(w[f"{name}.attention.in_proj_bias"], 3)
    probe = np.repeat(w[f"{name}.probe"], len(x), axis=0)
    query, key, value = (
        product(given, kernel.T) + bias
        for given, kernel, bias in zip((probe, x, x), kernels, biases, strict=True)
    )
    mixed = attention(query, key, value, config.heads, mask=None)
    pooled = w.linear(mixed, f"{name}.attention.out_proj")
    normed = w.norm(pooled, f"{name}.layernorm", config.epsilon)
    return pooled + _mlp(w, normed, f"{name}.mlp", config)


def _embed(w: Weights, ids: NDArray[np.int64]) -> Array:
    name = "text_model.embeddings"
    x = w.rows(f"{name}.token_embedding.weight", ids)
    return x + w[f"{name}.position_embedding.weight"][: ids.shape[1]]


def _encode(
    w: Weights, x: Array, tower: str, config: TransformerConfig, mask: Array | None
) -> Array:
    for index in range(config.layers):
        layer = f"{tower}.encoder.layers.{index}"
        normed = w.norm(x, f"{layer}.layer_norm1", config.epsilon)
        query, key, value = (w.linear(normed, f"{layer}.self_attn.{p}_proj") for p in "qkv")
        mixed = attention(query, key, value, config.heads, mask)
        x = x + w.linear(mixed, f"{layer}.self_attn.out_proj")
        normed = w.norm(x, f"{layer}.layer_norm2", config.epsilon)
        x = x + _mlp(w, normed, f"{layer}.mlp", config)
    return x


def _mlp(w: Weights, x: Array, name: str, config: TransformerConfig) -> Array:
    return w.linear(ACTIVATIONS[config.activation](w.linear(x, f"{name}.fc1")), f"{name}.fc2")
