"""The arithmetic of forward passes: arrays in, arrays out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tensors import TensorStore

Array = NDArray[np.float64]
# (a batch of a tower's input) -> (N, D) unit rows.
Forward = Callable[[NDArray[Any]], Array]

# openai/CLIP, clip/clip.py.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class Weights:
    """A checkpoint's tensors in float64, and the layers that are named after them."""

    def __init__(self, tensors: TensorStore) -> None:
        self._tensors = tensors.tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name].float64()

    def rows(self, name: str, ids: NDArray[np.int64]) -> Array:
        """Of a table that is large: only those that are looked up are widened."""
        return self._tensors[name].read()[ids].astype(np.float64)

    def norm(self, x: Array, name: str, epsilon: float) -> Array:
        """Layer normalisation over the last axis."""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + epsilon) * self[f"{name}.weight"] + self[f"{name}.bias"]

    def linear(self, x: Array, name: str) -> Array:
        return product(x, self[f"{name}.weight"].T) + self[f"{name}.bias"]


def product(x: Array, matrix: Array) -> Array:
    """X @ matrix, as one of two dimensions: NumPy multiplies a stack many times slower."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)


def attention(query: Array, key: Array, value: Array, heads: int, mask: Array | None) -> Array:
    """Of (N, Q, W) to (N, T, W), before the projection that follows."""

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    cut = split(query)
    logits = cut @ split(key).swapaxes(2, 3) / math.sqrt(cut.shape[3])
    if mask is not None:
        logits = logits + mask
    weights = np.exp(logits - logits.max(axis=3, keepdims=True))
    weights /= weights.sum(axis=3, keepdims=True)
    return (weights @ split(value)).transpose(0, 2, 1, 3).reshape(query.shape)


@dataclass(frozen=True)
class Pixels:
    """What an image processor does to values; ``mean`` and ``std`` are (3,)."""

    scale: float
    mean: Array
    std: Array

    def normalised(self, pixels: NDArray[np.uint8]) -> Array:
        """(N, H, W, 3) uint8 -> (N, H, W, 3)."""
        return (pixels * self.scale - self.mean) / self.std


def patches(values: Array, kernel: Array) -> Array:
    """(N, size, size, 3) and (W, 3, side, side) -> (N, patches, W), row by row."""
    side = kernel.shape[2]
    grid = values.shape[1] // side
    cut = values[:, : grid * side, : grid * side].reshape(len(values), grid, side, grid, side, 3)
    tokens = np.einsum("nyixjc,wcij->nyxw", cut, kernel, optimize=True)
    return tokens.reshape(len(values), grid * grid, -1)


def convolved(x: Array, kernel: Array, stride: int = 1) -> Array:
    """(N, H, W, in) and (out, in per group, side, side): a convolution padded by half its side.

    Either all channels are one group, or each is its own, of which ``out / in`` come.
    """
    out, grouped, side, _ = kernel.shape
    margin, into = side // 2, x.shape[3]
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = (-(-length // stride) for length in x.shape[1:3])
    found = np.zeros((len(x), height, width, out))
    for row in range(side):
        for column in range(side):
            part = padded[:, row:, column:][:, ::stride, ::stride][:, :height, :width]
            tap = kernel[:, :, row, column]
            if grouped == 1 and into > 1:
                found += np.repeat(part, out // into, axis=3) * tap[:, 0]
            else:
                found += product(part, tap.T)
    return found


def joined(x: Array, kernel: Array) -> Array:
    """(N, H, W, in) and (out, in, side, side): a convolution of squares that do not overlap."""
    side = kernel.shape[2]
    found = np.zeros(1)
    for row in range(side):
        for column in range(side):
            found = found + product(x[:, row::side, column::side], kernel[:, :, row, column].T)
    return found


def causal_mask(length: int) -> Array:
    return np.triu(np.full((length, length), -np.inf), k=1)


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _quick_gelu(x: Array) -> Array:
    # exp of -|x| cannot overflow; the two branches are one function.
    small = np.exp(-np.abs(1.702 * x))
    gate: Any = np.where(x >= 0, 1, small) / (1 + small)
    return x * gate


def _erf(x: Array) -> Array:
    # Twice as fast as numpy.vectorize.
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_fast(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)))


# By transformers' names.
ACTIVATIONS = {
    "quick_gelu": _quick_gelu,
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_fast,
}
