"""The arithmetic of forward passes: arrays in, arrays out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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
    """Of (N, Q, W) to (N, T, W), before the projection that follows.

    A text and a head at a time: the logits of all of them together would leave every cache.
    """
    mixed = np.empty_like(query)
    width = query.shape[2] // heads
    for row in range(len(query)):
        for start in range(0, heads * width, width):
            part = np.s_[row, :, start : start + width]
            logits = query[part] @ key[part].T
            logits /= math.sqrt(width)
            if mask is not None:
                logits += mask
            logits -= logits.max(axis=1, keepdims=True)
            weights = np.exp(logits, out=logits)
            weights /= weights.sum(axis=1, keepdims=True)
            mixed[part] = weights @ value[part]
    return mixed


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


@cache
def _erf_series() -> tuple[int, Array]:
    """Erf's Taylor series about places from -6 to 6, beyond which it is 1 in float64.

    Returns:
        Places a unit, and (5, places) coefficients, the constant's first.
    """
    steps = 128
    at = np.arange(-6 * steps, 6 * steps + 1) / steps
    slope = 2 / math.sqrt(math.pi) * np.exp(-(at**2))
    constant = np.array([math.erf(place) for place in at])
    second, third, fourth = -at, (2 * at**2 - 1) / 3, at * (3 - 2 * at**2) / 6
    return steps, np.stack([constant, slope, second * slope, third * slope, fourth * slope])


def _erf(x: Array) -> Array:
    """Within 2e-13 of math.erf, which takes an element at a time, and five times as long."""
    steps, series = _erf_series()
    near = np.clip(x, -6, 6)
    nearest = np.rint(near * steps)
    near -= nearest / steps
    places = nearest.astype(np.int64) + 6 * steps
    found: Array = series[4][places]
    for coefficients in series[3::-1]:
        found *= near
        found += coefficients[places]
    return found


def _gelu(x: Array) -> Array:
    """A part at a time, which stays in a cache from step to step."""
    flat, made = x.reshape(-1), np.empty(x.size)
    for start in range(0, x.size, 1 << 15):
        part = flat[start : start + (1 << 15)]
        made[start : start + (1 << 15)] = 0.5 * part * (1 + _erf(part / math.sqrt(2)))
    return made.reshape(x.shape)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_fast(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)))


# By transformers' names.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": _quick_gelu,
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_fast,
    "relu": lambda x: np.maximum(x, 0),
}
