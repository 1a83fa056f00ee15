"""timm's EVA, EVA-02 and Perception Encoder in OpenCLIP (eva.py), parts read off the tensors.

Heads, what rotates queries and keys, and where normalisations stand are off the name.
"""

import numpy as np

from .numerics import ACTIVATIONS, Array, Weights, attention, patches, product

_TRUNK = "visual.trunk"
_HEADS = {
    "eva_giant": 16, "eva02_base": 12, "eva02_large": 16, "eva02_enormous": 16,
    "pe_core_tiny": 3, "pe_core_small": 6, "pe_core_base": 12, "pe_core_large": 16,
    "pe_core_gigantic": 16,
}  # fmt: skip
_POOLING_HEADS = 8
# EVA-02's were trained on so many places a side.
_TRAINED = 16


def eva(w: Weights, model: str, values: Array) -> Array:
    """(N, size, size, 3) -> (N, D), not yet of length 1."""
    heads = next(count for name, count in _HEADS.items() if name in model)
    encoder, after = "pe_core" in model, "enormous" in model
    epsilon = 1e-5 if encoder else 1e-6
    x = patches(values, w[f"{_TRUNK}.patch_embed.proj.weight"])
    grid = round(x.shape[1] ** 0.5)
    if not encoder:
        x = x + w[f"{_TRUNK}.patch_embed.proj.bias"]
    if f"{_TRUNK}.cls_token" in w:
        first = np.broadcast_to(w[f"{_TRUNK}.cls_token"], (len(x), 1, x.shape[2]))
        x = np.concatenate([first, x], axis=1)
    x = x + w[f"{_TRUNK}.pos_embed"]
    if encoder:
        x = w.norm(x, f"{_TRUNK}.norm_pre", epsilon)
    turns = _turns(w, encoder, grid, x.shape[2] // heads)
    index = 0
    while f"{(layer := f'{_TRUNK}.blocks.{index}')}.norm1.weight" in w:
        if after:
            x = x + w.norm(_attended(w, layer, x, heads, None, epsilon), f"{layer}.norm1", epsilon)
            x = x + w.norm(_mlp(w, layer, x, epsilon), f"{layer}.norm2", epsilon)
        else:
            normed = w.norm(x, f"{layer}.norm1", epsilon)
            x = x + _attended(w, layer, normed, heads, turns, epsilon)
            x = x + _mlp(w, layer, w.norm(x, f"{layer}.norm2", epsilon), epsilon)
        index += 1
    x = w.norm(x, f"{_TRUNK}.norm", epsilon)
    return w.linear(_pooled(w, x) if encoder else x[:, 0], f"{_TRUNK}.head")


def _turns(w: Weights, encoder: bool, grid: int, head_width: int) -> Array | None:
    """(patches, head width / 2) angles."""
    if not encoder and f"{_TRUNK}.blocks.0.attn.q_proj.weight" not in w:
        return None
    count = head_width // 4
    speeds = [10_000 ** (-index / count) for index in range(count)]
    rows = []
    for number in range(grid * grid):
        row, column = divmod(number, grid)
        if encoder:
            more = 1.0 if f"{_TRUNK}.cls_token" in w else 0.0
            along = (column + more, row + more)
        else:
            along = (row * _TRAINED / grid, column * _TRAINED / grid)
        rows.append([place * speed for place in along for speed in speeds])
    return np.array(rows)


def _turned(x: Array, heads: int, turns: Array) -> Array:
    """Neighbours as complex numbers, turned; the class token, where there is one, is not."""
    pairs = x.reshape(*x.shape[:2], heads, -1, 2)
    numbers = pairs[..., 0] + 1j * pairs[..., 1]
    before = x.shape[1] - len(turns)
    numbers[:, before:] *= np.exp(1j * turns)[:, None, :]
    return np.stack([numbers.real, numbers.imag], axis=-1).reshape(x.shape)


def _attended(
    w: Weights, layer: str, x: Array, heads: int, turns: Array | None, epsilon: float
) -> Array:
    name = f"{layer}.attn"
    if f"{name}.q_proj.weight" in w:
        query, value = w.linear(x, f"{name}.q_proj"), w.linear(x, f"{name}.v_proj")
        key = product(x, w[f"{name}.k_proj.weight"].T)
    else:
        together = product(x, w[f"{name}.qkv.weight"].T)
        if f"{name}.qkv.bias" in w:
            together = together + w[f"{name}.qkv.bias"]
        query, key, value = np.split(together, 3, axis=2)
        if f"{name}.q_bias" in w:
            query, value = query + w[f"{name}.q_bias"], value + w[f"{name}.v_bias"]
    if turns is not None:
        query, key = _turned(query, heads, turns), _turned(key, heads, turns)
    found = attention(query, key, value, heads, None)
    if f"{name}.norm.weight" in w:
        found = w.norm(found, f"{name}.norm", epsilon)
    return w.linear(found, f"{name}.proj")


def _mlp(w: Weights, layer: str, x: Array, epsilon: float) -> Array:
    name = f"{layer}.mlp"
    if f"{name}.fc1_g.weight" not in w:
        return w.linear(ACTIVATIONS["gelu"](w.linear(x, f"{name}.fc1")), f"{name}.fc2")
    gate = w.linear(x, f"{name}.fc1_g")
    hidden = gate / (1 + np.exp(-gate)) * w.linear(x, f"{name}.fc1_x")
    return w.linear(w.norm(hidden, f"{name}.norm", epsilon), f"{name}.fc2")


def _pooled(w: Weights, x: Array) -> Array:
    """timm, attention_pool.py, AttentionPoolLatent."""
    name = f"{_TRUNK}.attn_pool"
    key, value = np.split(w.linear(x, f"{name}.kv"), 2, axis=2)
    query = np.repeat(w.linear(w[f"{name}.latent"], f"{name}.q"), len(x), axis=0)
    found = w.linear(attention(query, key, value, _POOLING_HEADS, None), f"{name}.proj")
    hidden = ACTIVATIONS["gelu"](w.linear(w.norm(found, f"{name}.norm", 1e-5), f"{name}.mlp.fc1"))
    pooled: Array = (found + w.linear(hidden, f"{name}.mlp.fc2"))[:, 0]
    return pooled
