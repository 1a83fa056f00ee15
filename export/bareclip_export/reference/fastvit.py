"""timm's FastViT as MobileCLIP has it (fastvit.py): branches and normalisations as trained.

Which branches, squeezes and kinds of block there are is read off the tensors.
"""

import numpy as np

from .numerics import ACTIVATIONS, Array, Weights, attention, convolved, product

_TRUNK = "visual.trunk"
_EPSILON, _HEAD_WIDTH = 1e-5, 32
_gelu = ACTIVATIONS["gelu"]


def fastvit(w: Weights, model: str, values: Array) -> Array:
    """(N, size, size, 3) -> (N, D), not yet of length 1."""
    x = values
    for number, stride in ((0, 2), (1, 2), (2, 1)):
        x = _gelu(_mobile_one(w, x, f"{_TRUNK}.stem.{number}", stride))
    stage = 0
    while f"{(name := f'{_TRUNK}.stages.{stage}')}.blocks.0.mlp.fc1.weight" in w:
        if f"{name}.downsample.proj.0.large_conv.conv.weight" in w:
            x = _downsample(w, x, f"{name}.downsample.proj")
        if f"{name}.pos_emb.pos_enc.weight" in w:
            x = x + _convolution(w, x, f"{name}.pos_emb.pos_enc")
        block = 0
        while f"{(layer := f'{name}.blocks.{block}')}.mlp.fc1.weight" in w:
            x = _block(w, x, layer)
            block += 1
        stage += 1
    x = _mobile_one(w, x, f"{_TRUNK}.final_conv")
    x = _gelu(_squeezed(w, x, f"{_TRUNK}.final_conv.se"))
    return w.linear(x.mean(axis=(1, 2)), f"{_TRUNK}.head.fc")


def _mobile_one(w: Weights, x: Array, name: str, stride: int = 1) -> Array:
    found = np.zeros(1)
    if f"{name}.identity.weight" in w:
        found = _batch_norm(w, x, f"{name}.identity")
    for branch in ("conv_scale", "conv_kxk.0"):
        if f"{name}.{branch}.conv.weight" in w:
            found = found + _normed(w, x, f"{name}.{branch}", stride)
    return found


def _downsample(w: Weights, x: Array, name: str) -> Array:
    y = _normed(w, x, f"{name}.0.large_conv", 2) + _normed(w, x, f"{name}.0.small_conv", 2)
    if f"{name}.0.se.fc1.weight" in w:
        y = _squeezed(w, y, f"{name}.0.se")
    return _gelu(_mobile_one(w, _gelu(y), f"{name}.1"))


def _block(w: Weights, x: Array, name: str) -> Array:
    mixer, scale = f"{name}.token_mixer", f"{name}.layer_scale"
    if f"{mixer}.qkv.weight" in w:
        batch = f"{name}.norm.running_mean" in w
        y = _batch_norm(w, x, f"{name}.norm") if batch else w.norm(x, f"{name}.norm", _EPSILON)
        x = x + w[f"{scale}_1.gamma"][:, 0, 0] * _attention(w, y, mixer)
        scale = f"{scale}_2"
    else:
        y = _mobile_one(w, x, f"{mixer}.mixer") - _mobile_one(w, x, f"{mixer}.norm")
        x = x + w[f"{mixer}.layer_scale.gamma"][:, 0, 0] * y
    y = _normed(w, x, f"{name}.mlp.conv")
    y = _convolution(w, _gelu(_convolution(w, y, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    return x + w[f"{scale}.gamma"][:, 0, 0] * y


def _attention(w: Weights, x: Array, name: str) -> Array:
    rows = x.reshape(len(x), -1, x.shape[3])
    together = product(rows, w[f"{name}.qkv.weight"].T)
    width = x.shape[3]
    query, key, value = (together[:, :, part * width :][:, :, :width] for part in range(3))
    found = attention(query, key, value, width // _HEAD_WIDTH, None)
    return w.linear(found, f"{name}.proj").reshape(x.shape)


def _squeezed(w: Weights, x: Array, name: str) -> Array:
    average = x.mean(axis=(1, 2), keepdims=True)
    gate = _convolution(w, average, f"{name}.fc1").clip(0)
    return x * _sigmoid(_convolution(w, gate, f"{name}.fc2"))


def _normed(w: Weights, x: Array, name: str, stride: int = 1) -> Array:
    return _batch_norm(w, convolved(x, w[f"{name}.conv.weight"], stride), f"{name}.bn")


def _convolution(w: Weights, x: Array, name: str) -> Array:
    return convolved(x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def _batch_norm(w: Weights, x: Array, name: str) -> Array:
    y = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + _EPSILON)
    return y * w[f"{name}.weight"] + w[f"{name}.bias"]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))
