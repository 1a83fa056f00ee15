"""open_clip's ModifiedResNet (modified_resnet.py): batch normalisation as it stands."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .numerics import Array, Weights, attention

_EPSILON = 1e-5


def resnet(w: Weights, layers: list[int], head_width: int, values: Array) -> Array:
    """(N, size, size, 3) -> (N, D), not yet of length 1."""
    x = values
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = _relu(_convolved(w, x, f"visual.conv{number}", f"visual.bn{number}", stride))
    x = _average(x, 2)
    for number, count in enumerate(layers, start=1):
        for index in range(count):
            stride = 2 if number > 1 and index == 0 else 1
            x = _bottleneck(w, x, f"visual.layer{number}.{index}", stride)
    return _attention_pool(w, x, head_width)


def _bottleneck(w: Weights, x: Array, name: str, stride: int) -> Array:
    y = _relu(_convolved(w, x, f"{name}.conv1", f"{name}.bn1"))
    y = _relu(_convolved(w, y, f"{name}.conv2", f"{name}.bn2"))
    y = _convolved(w, _average(y, stride), f"{name}.conv3", f"{name}.bn3")
    if f"{name}.downsample.0.weight" in w:
        x = _convolved(w, _average(x, stride), f"{name}.downsample.0", f"{name}.downsample.1")
    return _relu(x + y)


def _convolved(w: Weights, x: Array, name: str, norm: str, stride: int = 1) -> Array:
    """A convolution that pads with zeros, and the batch normalisation after it."""
    kernel = w[f"{name}.weight"]
    out, into, side, _ = kernel.shape
    margin = side // 2
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    windows = sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    rows = windows.reshape(-1, into * side * side) @ kernel.reshape(out, -1).T
    y = rows.reshape(*windows.shape[:3], out)
    y = (y - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + _EPSILON)
    return y * w[f"{norm}.weight"] + w[f"{norm}.bias"]


def _average(x: Array, side: int) -> Array:
    """Of squares that do not overlap."""
    n, height, width, channels = x.shape
    cut = x.reshape(n, height // side, side, width // side, side, channels)
    return cut.mean(axis=(2, 4))


def _attention_pool(w: Weights, x: Array, head_width: int) -> Array:
    name = "visual.attnpool"
    x = x.reshape(len(x), -1, x.shape[3])
    x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
    x = x + w[f"{name}.positional_embedding"]
    query, key, value = (w.linear(x, f"{name}.{part}_proj") for part in "qkv")
    mixed = attention(query, key, value, x.shape[2] // head_width, None)
    return w.linear(mixed, f"{name}.c_proj")[:, 0]


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)
