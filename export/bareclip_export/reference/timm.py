"""timm's ViTs in OpenCLIP (vision_transformer.py): with attention pooling, as SigLIP's, and plain.

Sizes are read off the tensors; heads and activation, which are not in them, off the name.
"""

import re
from collections.abc import Callable

import numpy as np

from .numerics import ACTIVATIONS, Array, Weights, attention, joined, patches

_EPSILON = 1e-6
_TANH = r"patch32|so400m_patch16|giantopt|large_patch16_siglip_512"


def siglip_trunk(w: Weights, model: str, values: Array) -> Array:
    """(N, size, size, 3) -> (N, D), not yet of length 1."""
    name = "visual.trunk"
    activate = ACTIVATIONS["gelu_pytorch_tanh" if re.search(_TANH, model) else "gelu"]
    x = patches(values, w[f"{name}.patch_embed.proj.weight"])
    x = x + w[f"{name}.patch_embed.proj.bias"] + w[f"{name}.pos_embed"]
    heads = 12 if "base" in model else 16
    x = _blocks(w, x, f"{name}.blocks", heads, activate)
    x = w.norm(x, f"{name}.norm", _EPSILON)
    pool = f"{name}.attn_pool"
    key, value = np.split(w.linear(x, f"{pool}.kv"), 2, axis=2)
    query = np.repeat(w.linear(w[f"{pool}.latent"], f"{pool}.q"), len(x), axis=0)
    x = w.linear(attention(query, key, value, heads, None), f"{pool}.proj")
    hidden = activate(w.linear(w.norm(x, f"{pool}.norm", _EPSILON), f"{pool}.mlp.fc1"))
    pooled: Array = (x + w.linear(hidden, f"{pool}.mlp.fc2"))[:, 0]
    return pooled


def vit(w: Weights, model: str, values: Array) -> Array:
    """A plain ViT of timm's, its class token, a projection: its own or OpenCLIP's (timm_model.py).

    MobileCLIP-B's has convolutions for its patches, and a class token without position
    (vision_transformer_hybrid.py).
    """
    name, epsilon = "visual.trunk", 1e-5 if "_clip_" in model else _EPSILON
    stem, patch = f"{name}.patch_embed.backbone", f"{name}.patch_embed.proj"
    if f"{stem}.0.conv.weight" in w:
        x = _stem(w, stem, values) + w[f"{name}.pos_embed"]
    else:
        x = patches(values, w[f"{patch}.weight"])
        if f"{patch}.bias" in w:
            x = x + w[f"{patch}.bias"]
    first = np.broadcast_to(w[f"{name}.cls_token"], (len(x), 1, x.shape[2]))
    x = np.concatenate([first, x], axis=1)
    if f"{stem}.0.conv.weight" not in w:
        x = x + w[f"{name}.pos_embed"]
    if f"{name}.norm_pre.weight" in w:
        x = w.norm(x, f"{name}.norm_pre", epsilon)
    heads = {"tiny": 3, "small": 6, "base": 12, "large": 16}[model.split("_")[1]]
    x = _blocks(w, x, f"{name}.blocks", heads, ACTIVATIONS["gelu"], epsilon)
    pooled = w.norm(x[:, 0], f"{name}.norm", epsilon)
    if f"{name}.head.weight" in w:
        return w.linear(pooled, f"{name}.head")
    projected: Array = pooled @ w["visual.head.proj.weight"].T
    return projected


def _stem(w: Weights, name: str, values: Array) -> Array:
    x = values
    for number in range(2):
        layer = f"{name}.{number}"
        x = joined(x, w[f"{layer}.conv.weight"]) - w[f"{layer}.bn.running_mean"]
        x = x / np.sqrt(w[f"{layer}.bn.running_var"] + 1e-5)
        x = ACTIVATIONS["gelu"](x * w[f"{layer}.bn.weight"] + w[f"{layer}.bn.bias"])
    x = joined(x, w[f"{name}.2.conv.weight"]) + w[f"{name}.2.conv.bias"]
    return x.reshape(len(x), -1, x.shape[3])


def _blocks(
    w: Weights,
    x: Array,
    name: str,
    heads: int,
    activate: Callable[[Array], Array],
    epsilon: float = _EPSILON,
) -> Array:
    index = 0
    while f"{(layer := f'{name}.{index}')}.norm1.weight" in w:
        together = w.linear(w.norm(x, f"{layer}.norm1", epsilon), f"{layer}.attn.qkv")
        query, key, value = np.split(together, 3, axis=2)
        mixed = attention(query, key, value, heads, None)
        x = x + w.linear(mixed, f"{layer}.attn.proj")
        hidden = activate(w.linear(w.norm(x, f"{layer}.norm2", epsilon), f"{layer}.mlp.fc1"))
        x = x + w.linear(hidden, f"{layer}.mlp.fc2")
        index += 1
    return x
