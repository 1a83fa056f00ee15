"""open_clip's CLIP and CustomTextCLIP (model.py, transformer.py), ViTs of its own."""

import numpy as np
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe

from ..layouts.open_clip_config import OpenClipConfig, Section
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
from .resnet import resnet
from .timm import siglip_trunk


def pixels_forward(
    w: Weights, config: OpenClipConfig, recipe: ImageRecipe, pixels: NDArray[np.uint8]
) -> Array:
    """(N, size, size, 3) uint8 -> (N, D), unit rows."""
    values, section = normalised(pixels, recipe), config.vision
    if section["timm_model_name"]:
        return unit(siglip_trunk(w, section["timm_model_name"], values))
    if isinstance(section["layers"], list):
        return unit(resnet(w, section["layers"], section["head_width"], values))
    tokens = patches(values, w["visual.conv1.weight"])
    first = np.broadcast_to(w["visual.class_embedding"], (len(tokens), 1, tokens.shape[2]))
    x = np.concatenate([first, tokens], axis=1) + w["visual.positional_embedding"]
    epsilon = config.epsilon(section)
    if not section["no_ln_pre"]:
        x = w.norm(x, "visual.ln_pre", epsilon)
    heads = section["width"] // section["head_width"]
    x = _transformer(w, x, "visual.transformer", config, section, heads, mask=None)

    def pool(x: Array) -> Array:
        return x[:, 1:].mean(axis=1) if section["pool_type"] == "avg" else x[:, 0]

    if section["final_ln_after_pool"]:
        pooled = w.norm(pool(x), "visual.ln_post", epsilon)
    else:
        pooled = pool(w.norm(x, "visual.ln_post", epsilon))
    return unit(pooled @ w["visual.proj"])


def ids_forward(w: Weights, config: OpenClipConfig, ids: NDArray[np.int64]) -> Array:
    """(N, T) token ids -> (N, D), unit rows."""
    section = config.text
    # CustomTextCLIP keeps its text tower apart; CLIP has its parts among its own.
    prefix = "text." if "text.token_embedding.weight" in w else ""
    x = w.rows(f"{prefix}token_embedding.weight", ids)
    x = x + w[f"{prefix}positional_embedding"][: ids.shape[1]]
    mask = None if section["no_causal_mask"] else causal_mask(ids.shape[1])
    x = _transformer(w, x, f"{prefix}transformer", config, section, section["heads"], mask)
    x = w.norm(x, f"{prefix}ln_final", config.epsilon(section))
    places = {
        "argmax": ids.argmax(axis=1),
        "eos": (ids == section["eos_id"]).argmax(axis=1),
        "last": np.full(len(ids), ids.shape[1] - 1),
    }[section["pool_type"]]
    pooled = x[np.arange(len(ids)), places]
    if section["proj_type"] == "none":
        return unit(pooled)
    if section["proj_bias"]:
        return unit(w.linear(pooled, f"{prefix}text_projection"))
    return unit(pooled @ w[f"{prefix}text_projection"])


def _transformer(
    w: Weights,
    x: Array,
    name: str,
    config: OpenClipConfig,
    section: Section,
    heads: int,
    mask: Array | None,
) -> Array:
    activate, epsilon = ACTIVATIONS[config.activation(section)], config.epsilon(section)
    for index in range(section["layers"]):
        layer = f"{name}.resblocks.{index}"
        normed = w.norm(x, f"{layer}.ln_1", epsilon)
        together = product(normed, w[f"{layer}.attn.in_proj_weight"].T)
        query, key, value = np.split(together + w[f"{layer}.attn.in_proj_bias"], 3, axis=2)
        x = x + w.linear(attention(query, key, value, heads, mask), f"{layer}.attn.out_proj")
        hidden = activate(w.linear(w.norm(x, f"{layer}.ln_2", epsilon), f"{layer}.mlp.c_fc"))
        x = x + w.linear(hidden, f"{layer}.mlp.c_proj")
    return x
