"""open_clip's CLIP and CustomTextCLIP (model.py, transformer.py), ViTs of its own.

How many layers, and which parts, there are is read off the tensors; the rest off
open_clip_config.json, with the defaults of CLIPVisionCfg and CLIPTextCfg.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from . import bert, m2m_100
from .convnext import convnext
from .eva import eva
from .fastvit import fastvit
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
from .resnet import resnet
from .timm import siglip_trunk, vit

Section = dict[str, Any]


def forwards(checkpoint: Checkpoint) -> dict[str, Forward]:
    """Towers by name: (a batch of its input) -> (N, D) unit rows."""
    w, config = Weights(checkpoint.tensors), checkpoint.config
    model, given = config["model_cfg"], config.get("preprocess_cfg") or {}
    pixels = Pixels(
        1 / 255,
        np.array(given.get("mean") or OPENAI_MEAN) * np.ones(3),
        np.array(given.get("std") or OPENAI_STD) * np.ones(3),
    )
    quick = model.get("quick_gelu", False)
    vision, text = model["vision_cfg"], model["text_cfg"]
    texts: Forward = partial(_text, w, text, _activation(text, quick))
    if "hf_model_name" in text:
        texts = _bert(checkpoint, w, text)
    return {
        "vision": partial(_vision, w, vision, _activation(vision, quick), pixels),
        "text": texts,
    }


def _bert(checkpoint: Checkpoint, w: Weights, section: Section) -> Forward:
    """hf_model.py: padding is whatever has its id, within a text too."""
    name = "text.transformer."
    beside = checkpoint.json("config.json") or {}
    if "bert" in str(beside.get("model_type")):
        encoder = bert.given(name, beside, masks_within=True)
    else:
        encoder = bert.named(name, section["hf_model_name"].lower(), masks_within=True)
    kind, nllb = section.get("hf_pooler_type", "mean_pooler"), f"{name}layers.0.fc1.weight" in w

    def pool(x: Array, seen: Array) -> Array:
        vector = bert.mean(x, seen) if kind == "mean_pooler" else bert.first(x, seen)
        if kind == "cls_pooler" and not nllb:
            vector = np.tanh(w.linear(vector, f"{name}pooler.dense"))
        if "text.proj.0.weight" in w:
            hidden = ACTIVATIONS["gelu"](w["text.proj.0.weight"] @ vector)
            return w["text.proj.2.weight"] @ hidden
        return w["text.proj.weight"] @ vector if "text.proj.weight" in w else vector

    if nllb:
        heads = beside.get("encoder_attention_heads", 16)
        activation = beside.get("activation_function", "relu")
        pad = beside.get("pad_token_id", 1)
        encoder = bert.Encoder(name, heads, 1e-5, activation, pad, pad + 1, masks_within=True)
        return m2m_100.texts(w, encoder, pool)
    return partial(bert.texts, w, encoder, pool)


def _activation(section: Section, quick: bool) -> Callable[[Array], Array]:
    if quick:
        return ACTIVATIONS["quick_gelu"]
    tanh = (section.get("act_kwargs") or {}).get("approximate") == "tanh"
    return ACTIVATIONS["gelu_pytorch_tanh" if tanh else "gelu"]


def _epsilon(section: Section) -> float:
    """1e-5 is torch.nn.LayerNorm's."""
    return float((section.get("norm_kwargs") or {}).get("eps", 1e-5))


def _vision(
    w: Weights,
    section: Section,
    activate: Callable[[Array], Array],
    given: Pixels,
    pixels: NDArray[np.uint8],
) -> Array:
    values, head_width = given.normalised(pixels), section.get("head_width", 64)
    if name := section.get("timm_model_name"):
        return unit(_timm(w, name)(w, name, values))
    if isinstance(section.get("layers"), list):
        return unit(resnet(w, section["layers"], head_width, values))
    tokens = patches(values, w["visual.conv1.weight"])
    width, epsilon = tokens.shape[2], _epsilon(section)
    first = np.broadcast_to(w["visual.class_embedding"], (len(tokens), 1, width))
    x = np.concatenate([first, tokens], axis=1) + w["visual.positional_embedding"]
    if not section.get("no_ln_pre", False):
        x = w.norm(x, "visual.ln_pre", epsilon)
    x = _transformer(w, x, "visual.transformer", activate, epsilon, width // head_width, mask=None)

    def pool(x: Array) -> Array:
        return x[:, 1:].mean(axis=1) if section.get("pool_type", "tok") == "avg" else x[:, 0]

    if section.get("final_ln_after_pool", False):
        pooled = w.norm(pool(x), "visual.ln_post", epsilon)
    else:
        pooled = pool(w.norm(x, "visual.ln_post", epsilon))
    return unit(pooled @ w["visual.proj"])


def _timm(w: Weights, model: str) -> Callable[[Weights, str, Array], Array]:
    if model.startswith("convnext"):
        return convnext
    if model.startswith("fastvit"):
        return fastvit
    if model.startswith(("eva", "vit_pe_core")):
        return eva
    return siglip_trunk if "visual.trunk.attn_pool.latent" in w else vit


def _text(
    w: Weights, section: Section, activate: Callable[[Array], Array], ids: NDArray[np.int64]
) -> Array:
    # CustomTextCLIP keeps its text tower apart; CLIP has its parts among its own.
    prefix = "text." if "text.token_embedding.weight" in w else ""
    epsilon = _epsilon(section)
    x = w.rows(f"{prefix}token_embedding.weight", ids)
    x = x + w[f"{prefix}positional_embedding"][: ids.shape[1]]
    mask = None if section.get("no_causal_mask", False) else causal_mask(ids.shape[1])
    heads = section.get("heads", 8)
    x = _transformer(w, x, f"{prefix}transformer", activate, epsilon, heads, mask)
    x = w.norm(x, f"{prefix}ln_final", epsilon)
    places = {
        "argmax": ids.argmax(axis=1),
        "eos": (ids == section.get("eos_id", 2)).argmax(axis=1),
        "last": np.full(len(ids), ids.shape[1] - 1),
    }[section.get("pool_type", "argmax")]
    pooled = x[np.arange(len(ids)), places]
    if section.get("proj_type", "linear") == "none":
        return unit(pooled)
    if section.get("proj_bias", False):
        return unit(w.linear(pooled, f"{prefix}text_projection"))
    return unit(pooled @ w[f"{prefix}text_projection"])


def _transformer(
    w: Weights,
    x: Array,
    name: str,
    activate: Callable[[Array], Array],
    epsilon: float,
    heads: int,
    mask: Array | None,
) -> Array:
    index = 0
    while f"{(layer := f'{name}.resblocks.{index}')}.ln_1.weight" in w:
        normed = w.norm(x, f"{layer}.ln_1", epsilon)
        together = product(normed, w[f"{layer}.attn.in_proj_weight"].T)
        query, key, value = np.split(together + w[f"{layer}.attn.in_proj_bias"], 3, axis=2)
        x = x + w.linear(attention(query, key, value, heads, mask), f"{layer}.attn.out_proj")
        hidden = activate(w.linear(w.norm(x, f"{layer}.ln_2", epsilon), f"{layer}.mlp.c_fc"))
        x = x + w.linear(hidden, f"{layer}.mlp.c_proj")
        index += 1
    return x
