"""transformers' M2M100Encoder (modeling_m2m_100.py), which NLLB's models have."""

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from . import bert
from .numerics import ACTIVATIONS, Array, Forward, Weights, attention


def texts(w: Weights, encoder: bert.Encoder, pool: bert.Pool) -> Forward:
    """(N, T) ids -> (N, D) unit rows."""
    return partial(bert.texts, w, encoder, pool, encode=_encode)


def _encode(
    w: Weights, encoder: bert.Encoder, rows: list[NDArray[np.int64]], masks: list[Array]
) -> list[Array]:
    name, epsilon = encoder.name, encoder.epsilon
    cuts = np.cumsum([len(row) for row in rows])[:-1]
    x = w.rows(f"{name}embed_tokens.weight", np.concatenate(rows))
    x = x * math.sqrt(x.shape[1])
    places = np.concatenate([bert.places(encoder, row) for row in rows])
    x = x + np.where(places[:, None] == encoder.pad, 0, _waves(places, x.shape[1]))
    index = 0
    while f"{(layer := f'{name}layers.{index}')}.fc1.weight" in w:
        normed = w.norm(x, f"{layer}.self_attn_layer_norm", epsilon)
        parts = [np.split(w.linear(normed, f"{layer}.self_attn.{p}_proj"), cuts) for p in "qkv"]
        mixed = [
            attention(q[None], k[None], v[None], encoder.heads, mask)[0]
            for q, k, v, mask in zip(*parts, masks, strict=True)
        ]
        x = x + w.linear(np.concatenate(mixed), f"{layer}.self_attn.out_proj")
        normed = w.norm(x, f"{layer}.final_layer_norm", epsilon)
        hidden = ACTIVATIONS[encoder.activation](w.linear(normed, f"{layer}.fc1"))
        x = x + w.linear(hidden, f"{layer}.fc2")
        index += 1
    return np.split(w.norm(x, f"{name}layer_norm", epsilon), cuts)


def _waves(places: NDArray[np.int64], width: int) -> Array:
    """Sines of each place at falling rates, then cosines; the model has the rates in float32."""
    half = width // 2
    waves = np.zeros((len(places), width))
    for index in range(half):
        angles = places * np.float64(np.float32(10000 ** (-index / (half - 1))))
        waves[:, index], waves[:, half + index] = np.sin(angles), np.cos(angles)
    return waves
