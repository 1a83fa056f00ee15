"""timm's ViTs in OpenCLIP (vision_transformer.py): with attention pooling, as SigLIP's, and plain.

Sizes are read off the tensors; heads and activation, which are not in them, off the name.
"""

import re
from collections.abc import Callable

import numpy as np

from .numerics import ACTIVATIONS, Array, Weights, attention, patches

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
    """Timm's plain ViT, its class token, and OpenCLIP's projection of it (timm_model.py)."""
    name = "visual.trunk"
    x = patches(values, w[f"{name}.patch_embed.proj.weight"])
    x = x + w[f"{name}.patch_embed.proj.bias"]
    first = np.broadcast_to(w[f"{name}.cls_token"], (len(x), 1, x.shape[2]))
    x = np.concatenate([first, x], axis=1) + w[f"{name}.pos_embed"]
    heads = {"tiny": 3, "small": 6, "base": 12, "large": 16}[model.split("_")[1]]
    x = _blocks(w, x, f"{name}.blocks", heads, ACTIVATIONS["gelu"])
    pooled: Array = w.norm(x[:, 0], f"{name}.norm", _EPSILON) @ w["visual.head.proj.weight"].T
    return pooled


def _blocks(
    w: Weights, x: Array, name: str, heads: int, activate: Callable[[Array], Array]
) -> Array:
    index = 0
    while f"{(layer := f'{name}.{index}')}.norm1.weight" in w:
        together = w.linear(w.norm(x, f"{layer}.norm1", _EPSILON), f"{layer}.attn.qkv")
        query, key, value = np.split(together, 3, axis=2)
        mixed = attention(query, key, value, heads, None)
        x = x + w.linear(mixed, f"{layer}.attn.proj")
        hidden = activate(w.linear(w.norm(x, f"{layer}.norm2", _EPSILON), f"{layer}.mlp.fc1"))
        x = x + w.linear(hidden, f"{layer}.mlp.fc2")
        index += 1
    return x
