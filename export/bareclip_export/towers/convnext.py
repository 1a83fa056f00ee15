"""ConvNeXt: uint8 pixels in, unit vectors out (Liu et al. 2022, "A ConvNet for the 2020s").

Shapes: N batch, S places a side, C channels. Channels come last, as normalisations and products
take them; a depthwise convolution alone has them first.
"""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from ..tensors import Tensor
from .convolutional_weights import ConvNeXtBlockWeights, ConvNeXtStageWeights, ConvNeXtWeights
from .layers import FLOAT, Head, Linear, Mlp, Norm, Op, Value, activate, constant
from .weights import LinearWeights, MlpWeights


class ConvNeXt(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    The normalisation of pixels is folded into the first convolution, which pads nothing.
    """

    def __init__(self, tower: ConvNeXtWeights, recipe: ImageRecipe) -> None:
        super().__init__()
        self._patch, self._recipe = tower.patch, recipe
        width, _, side, _ = tower.patch.weight.shape
        self._side, self._places = side, tower.image_size // side
        self.patch = constant((3 * side**2, width), self._fold_patch)
        self.patch_bias = constant((width,), self._fold_bias)
        self.patch_norm = Norm(tower.patch_norm)
        places = self._places
        stages: list[Module] = []
        for stage in tower.stages:
            stages.append(Stage(stage, places))
            places //= 1 if stage.join is None else stage.join.weight.shape[2]
        self.stages = ModuleList(stages)
        self.head = Pooled(tower)

    def forward(self, op: Op, pixels: Value) -> Value:
        # Bytes are rearranged before they become floats four times their size.
        rows = squares(op, pixels, self._places, self._side, 3)
        x = op.Add(op.MatMul(op.Cast(rows, to=FLOAT), self.patch), self.patch_bias)
        x = self.patch_norm(op, x)
        for stage in self.stages:
            x = stage(op, x)
        return self.head(op, x)

    def _fold_patch(self) -> NDArray[np.float64]:
        """(side * side * 3, C): takes bytes, as (x * scale - mean) / std would be taken."""
        gain = self._recipe.scale / np.array(self._recipe.std)
        kernel = self._patch.weight.float64().transpose(2, 3, 1, 0) * gain[:, None]
        return kernel.reshape(-1, kernel.shape[3])

    def _fold_bias(self) -> NDArray[np.float64]:
        offset = np.array(self._recipe.mean) / np.array(self._recipe.std)
        return self._patch.bias.float64() - np.einsum(
            "wchx,c->w", self._patch.weight.float64(), offset
        )


class Stage(Module):
    """Squares joined, where they are, and blocks: (N, S, S, C) -> (N, S', S', C')."""

    def __init__(self, stage: ConvNeXtStageWeights, places: int) -> None:
        super().__init__()
        self.norm = None if stage.norm is None else Norm(stage.norm)
        self.join = None
        if stage.join is not None:
            _, self._width, self._side, _ = stage.join.weight.shape
            self._places = places // self._side
            self.join = Linear(LinearWeights(_of_squares(stage.join.weight), stage.join.bias))
        self.blocks = ModuleList([Block(block) for block in stage.blocks])

    def forward(self, op: Op, x: Value) -> Value:
        if self.norm is not None:
            x = self.norm(op, x)
        if self.join is not None:
            x = self.join(op, squares(op, x, self._places, self._side, self._width))
        for block in self.blocks:
            x = block(op, x)
        return x


class Block(Module):
    """A residual block: (N, S, S, C) -> (N, S, S, C)."""

    def __init__(self, block: ConvNeXtBlockWeights) -> None:
        super().__init__()
        kernel, bias = block.depthwise.weight, block.depthwise.bias
        self._channels, _, self._side, _ = kernel.shape
        self.kernel = constant(kernel.shape, kernel.float32)
        self.bias = constant(bias.shape, bias.float32)
        self.norm = Norm(block.norm)
        contract = scaled(block.mlp.contract, block.scale)
        self.mlp = Mlp(MlpWeights(block.mlp.activation, block.mlp.expand, contract))

    def forward(self, op: Op, x: Value) -> Value:
        mixed = op.Conv(
            op.Transpose(x, perm=[0, 3, 1, 2]),
            self.kernel,
            self.bias,
            group=self._channels,
            kernel_shape=[self._side] * 2,
            pads=[self._side // 2] * 4,
        )
        mixed = self.norm(op, op.Transpose(mixed, perm=[0, 2, 3, 1]))
        return op.Add(x, self.mlp(op, mixed))


class Pooled(Module):
    """The average of all places, normalised and projected: (N, S, S, C) -> (N, D), unit rows."""

    def __init__(self, tower: ConvNeXtWeights) -> None:
        super().__init__()
        self.norm = Norm(tower.norm)
        self.hidden = None if tower.hidden is None else Linear(tower.hidden)
        self.head = Head(None, tower.projection, tower.projection_bias)

    def forward(self, op: Op, x: Value) -> Value:
        x = self.norm(op, op.Squeeze(op.ReduceMean(x, [1, 2], keepdims=1), [1]))
        if self.hidden is not None:
            x = activate(op, self.hidden(op, x), "gelu")
        return self.head(op, x)


def squares(op: Op, x: Value, places: int, side: int, channels: int) -> Value:
    """(N, places * side, places * side, C) -> (N, places, places, side * side * C)."""
    rows = op.Reshape(x, [0, places, side, places, side * channels])
    rows = op.Transpose(rows, perm=[0, 1, 3, 2, 4])
    return op.Reshape(rows, [0, places, places, side * side * channels])


def scaled(layer: LinearWeights, factor: Tensor) -> LinearWeights:
    """A layer whose results are multiplied by (out,) factors."""
    weight, bias = layer.weight, layer.bias
    return LinearWeights(
        Tensor(weight.shape, lambda: weight.float64() * factor.float64()[:, None]),
        Tensor(bias.shape, lambda: bias.float64() * factor.float64()),
    )


def _of_squares(kernel: Tensor) -> Tensor:
    """(out, in, side, side) -> (out, side * side * in), as ``squares`` orders them."""
    out, into, side, _ = kernel.shape
    return Tensor(
        (out, side * side * into), lambda: kernel.read().transpose(0, 2, 3, 1).reshape(out, -1)
    )
