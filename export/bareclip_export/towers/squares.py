"""Convolutions whose stride is their side, as products: squares of places become one place each.

Shapes: N batch, S places a side, C channels, which come last.
"""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module

from bareclip.bundle import ImageRecipe

from ..tensors import Tensor
from .layers import FLOAT, Linear, Op, Value, constant
from .weights import LinearWeights


class Squares(Module):
    """(N, S, S, C) -> (N, S / side, S / side, C'); the layer is (C', C, side, side)."""

    def __init__(self, layer: LinearWeights, places: int) -> None:
        super().__init__()
        _, self._channels, self._side, _ = layer.weight.shape
        self._places = places // self._side
        self.layer = Linear(LinearWeights(_of_squares(layer.weight), layer.bias))

    def forward(self, op: Op, x: Value) -> Value:
        return self.layer(op, _squares(op, x, self._places, self._side, self._channels))


class PixelSquares(Module):
    """(N, S, S, 3) uint8 -> (N, S / side, S / side, C); pixels' normalisation is folded in."""

    def __init__(self, layer: LinearWeights, size: int, recipe: ImageRecipe) -> None:
        super().__init__()
        self._layer, self._recipe = layer, recipe
        width, _, self._side, _ = layer.weight.shape
        self._places = size // self._side
        self.weight = constant((3 * self._side**2, width), self._fold_weight)
        self.bias = constant((width,), self._fold_bias)

    def forward(self, op: Op, pixels: Value) -> Value:
        # Bytes are rearranged before they become floats four times their size.
        rows = _squares(op, pixels, self._places, self._side, 3)
        return op.Add(op.MatMul(op.Cast(rows, to=FLOAT), self.weight), self.bias)

    def _fold_weight(self) -> NDArray[np.float64]:
        """(side * side * 3, C): takes bytes, as (x * scale - mean) / std would be taken."""
        gain = self._recipe.scale / np.array(self._recipe.std)
        kernel = self._layer.weight.float64().transpose(2, 3, 1, 0) * gain[:, None]
        return kernel.reshape(-1, kernel.shape[3])

    def _fold_bias(self) -> NDArray[np.float64]:
        offset = np.array(self._recipe.mean) / np.array(self._recipe.std)
        lost = np.einsum("wchx,c->w", self._layer.weight.float64(), offset)
        return self._layer.bias.float64() - lost


def _squares(op: Op, x: Value, places: int, side: int, channels: int) -> Value:
    """(N, places * side, places * side, C) -> (N, places, places, side * side * C)."""
    rows = op.Reshape(x, [0, places, side, places, side * channels])
    rows = op.Transpose(rows, perm=[0, 1, 3, 2, 4])
    return op.Reshape(rows, [0, places, places, side * side * channels])


def _of_squares(kernel: Tensor) -> Tensor:
    """(out, in, side, side) -> (out, side * side * in), as ``_squares`` orders them."""
    out, into, side, _ = kernel.shape
    return Tensor(
        (out, side * side * into), lambda: kernel.read().transpose(0, 2, 3, 1).reshape(out, -1)
    )
