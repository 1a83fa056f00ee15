"""timm's ConvNeXt in OpenCLIP (convnext.py, timm_model.py), its sizes read off the tensors."""

from .numerics import ACTIVATIONS, Array, Weights, convolved, joined, product

_TRUNK = "visual.trunk"


def convnext(w: Weights, model: str, values: Array) -> Array:
    """(N, size, size, 3) -> (N, D), not yet of length 1."""
    epsilon = 1e-5 if "xxlarge" in model else 1e-6
    gelu = ACTIVATIONS["gelu"]
    x = _joined(w, values, f"{_TRUNK}.stem.0")
    x = w.norm(x, f"{_TRUNK}.stem.1", epsilon)
    stage = 0
    while f"{(name := f'{_TRUNK}.stages.{stage}')}.blocks.0.gamma" in w:
        if stage:
            x = w.norm(x, f"{name}.downsample.0", epsilon)
            x = _joined(w, x, f"{name}.downsample.1")
        block = 0
        while f"{(layer := f'{name}.blocks.{block}')}.gamma" in w:
            y = convolved(x, w[f"{layer}.conv_dw.weight"]) + w[f"{layer}.conv_dw.bias"]
            y = gelu(w.linear(w.norm(y, f"{layer}.norm", epsilon), f"{layer}.mlp.fc1"))
            x = x + w[f"{layer}.gamma"] * w.linear(y, f"{layer}.mlp.fc2")
            block += 1
        stage += 1
    pooled = w.norm(x.mean(axis=(1, 2)), f"{_TRUNK}.head.norm", epsilon)
    last = "visual.head.proj"
    if "visual.head.mlp.fc1.weight" in w:
        pooled, last = gelu(w.linear(pooled, "visual.head.mlp.fc1")), "visual.head.mlp.fc2"
    projected = product(pooled, w[f"{last}.weight"].T)
    return projected + w[f"{last}.bias"] if f"{last}.bias" in w else projected


def _joined(w: Weights, x: Array, name: str) -> Array:
    return joined(x, w[f"{name}.weight"]) + w[f"{name}.bias"]
