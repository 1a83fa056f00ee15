"""A CLIPModel's forward pass in float64 NumPy, straight from the checkpoint's tensors.

Nothing is shared with the towers: no folding, no packing, no pooled last block, its own
reading of names and config. So a mistake there is not repeated here. Slow, and meant
to be read beside transformers' models/clip/modeling_clip.py, which tests hold it to.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe

from .layouts.huggingface_config import ClipConfig, TransformerConfig
from .tensors import TensorStore

Array = NDArray[np.float64]


class Reference:
    """The checkpoint's own answers, in float64."""

    def __init__(self, tensors: TensorStore, config: ClipConfig, recipe: ImageRecipe) -> None:
        self._tensors = tensors
        self._config = config
        self._recipe = recipe

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> Array:
        """(N, size, size, 3) uint8 -> (N, D), unit rows."""
        recipe, patch = self._recipe, self._config.patch_size
        values = (pixels * recipe.scale - np.array(recipe.mean)) / np.array(recipe.std)
        grid = self._config.image_size // patch
        cut = values[:, : grid * patch, : grid * patch]
        patches = cut.reshape(len(cut), grid, patch, grid, patch, 3)
        name = "vision_model.embeddings"
        kernel = self._get(f"{name}.patch_embedding.weight")
        tokens = np.einsum("nyixjc,wcij->nyxw", patches, kernel, optimize=True)
        tokens = tokens.reshape(len(cut), grid * grid, -1)
        first = np.broadcast_to(
            self._get(f"{name}.class_embedding"), (len(cut), 1, tokens.shape[2])
        )
        x = np.concatenate([first, tokens], axis=1)
        x = x + self._get(f"{name}.position_embedding.weight")
        x = self._norm(x, "vision_model.pre_layrnorm", self._config.vision)
        x = self._encode(x, "vision_model", self._config.vision, mask=None)
        pooled = self._norm(x[:, 0], "vision_model.post_layernorm", self._config.vision)
        return _unit(pooled @ self._get("visual_projection.weight").T)

    def embed_ids(self, ids: NDArray[np.int64]) -> Array:
        """(N, T) token ids -> (N, D), unit rows."""
        name = "text_model.embeddings"
        x = self._tensors.tensors[f"{name}.token_embedding.weight"].read()[ids].astype(np.float64)
        x = x + self._get(f"{name}.position_embedding.weight")[: ids.shape[1]]
        mask = np.triu(np.full((ids.shape[1], ids.shape[1]), -np.inf), k=1)
        x = self._encode(x, "text_model", self._config.text, mask)
        x = self._norm(x, "text_model.final_layer_norm", self._config.text)
        end = self._config.end_id
        places = ids.argmax(axis=1) if end is None else (ids == end).argmax(axis=1)
        pooled = x[np.arange(len(ids)), places]
        return _unit(pooled @ self._get("text_projection.weight").T)

    def _encode(self, x: Array, tower: str, config: TransformerConfig, mask: Array | None) -> Array:
        for index in range(config.layers):
            layer = f"{tower}.encoder.layers.{index}"
            normed = self._norm(x, f"{layer}.layer_norm1", config)
            x = x + self._attention(normed, f"{layer}.self_attn", config.heads, mask)
            normed = self._norm(x, f"{layer}.layer_norm2", config)
            hidden = ACTIVATIONS[config.activation](self._linear(normed, f"{layer}.mlp.fc1"))
            x = x + self._linear(hidden, f"{layer}.mlp.fc2")
        return x

    def _attention(self, x: Array, name: str, heads: int, mask: Array | None) -> Array:
        def split(part: str) -> Array:
            y = self._linear(x, f"{name}.{part}_proj")
            return y.reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3)

        query, key, value = split("q"), split("k"), split("v")
        logits = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[3])
        if mask is not None:
            logits = logits + mask
        weights = np.exp(logits - logits.max(axis=3, keepdims=True))
        weights /= weights.sum(axis=3, keepdims=True)
        mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        return self._linear(mixed, f"{name}.out_proj")

    def _norm(self, x: Array, name: str, config: TransformerConfig) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(variance + config.epsilon)
        return scaled * self._get(f"{name}.weight") + self._get(f"{name}.bias")

    def _linear(self, x: Array, name: str) -> Array:
        # As one matrix: NumPy multiplies a stack row block by row block, many times slower.
        rows = x.reshape(-1, x.shape[-1]) @ self._get(f"{name}.weight").T
        return rows.reshape(*x.shape[:-1], -1) + self._get(f"{name}.bias")

    def _get(self, name: str) -> Array:
        return self._tensors.tensors[name].float64()


def _quick_gelu(x: Array) -> Array:
    # exp of -|x| cannot overflow; the two branches are one function.
    small = np.exp(-np.abs(1.702 * x))
    gate: Any = np.where(x >= 0, 1, small) / (1 + small)
    return x * gate


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


ACTIVATIONS = {"quick_gelu": _quick_gelu, "gelu": _gelu}


def _unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)
