"""CLIP's ResNet: uint8 pixels in, unit vectors out (Radford et al. 2021, section 2.4)."""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from .attention import OneQuery
from .layers import FLOAT, Linear, Op, Value, constant, unit
from .weights import BottleneckWeights, ConvolutionWeights, ModifiedResNetWeights


class ModifiedResNet(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    Batch normalisation is folded into the convolutions. The normalisation of pixels is not:
    the first convolution pads with zeros after it, and a folded mean would be missing there.
    """

    def __init__(self, tower: ModifiedResNetWeights, recipe: ImageRecipe) -> None:
        super().__init__()
        mean, std = np.array(recipe.mean), np.array(recipe.std)
        self.gain = constant((3,), lambda: recipe.scale / std)
        self.offset = constant((3,), lambda: mean / std)
        first, *others = tower.stem
        self.stem = ModuleList(
            [Convolution(first, stride=2), *(Convolution(conv) for conv in others)]
        )
        self.blocks = ModuleList([Bottleneck(block) for block in tower.blocks])
        self.pool = AttentionPool(tower)

    def forward(self, op: Op, pixels: Value) -> Value:
        x = op.Sub(op.Mul(op.Cast(pixels, to=FLOAT), self.gain), self.offset)
        x = op.Transpose(x, perm=[0, 3, 1, 2])
        for convolution in self.stem:
            x = op.Relu(convolution(op, x))
        x = _average(op, x, 2)
        for block in self.blocks:
            x = block(op, x)
        return self.pool(op, x)


class Convolution(Module):
    """A convolution with the batch normalisation after it: (N, in, ..) -> (N, out, ..)."""

    def __init__(self, convolution: ConvolutionWeights, stride: int = 1) -> None:
        super().__init__()
        self._convolution, self._stride = convolution, stride
        self._side = convolution.weight.shape[2]
        self.weight = constant(convolution.weight.shape, self._fold_weight)
        self.bias = constant(convolution.bias.shape, self._fold_bias)

    def forward(self, op: Op, x: Value) -> Value:
        return op.Conv(
            x,
            self.weight,
            self.bias,
            kernel_shape=[self._side] * 2,
            strides=[self._stride] * 2,
            pads=[self._side // 2] * 4,
        )

    def _gain(self) -> NDArray[np.float64]:
        given = self._convolution
        return given.scale.float64() / np.sqrt(given.variance.float64() + given.epsilon)

    def _fold_weight(self) -> NDArray[np.float64]:
        return self._convolution.weight.float64() * self._gain()[:, None, None, None]

    def _fold_bias(self) -> NDArray[np.float64]:
        return self._convolution.bias.float64() - self._convolution.mean.float64() * self._gain()


class Bottleneck(Module):
    """A residual block: (N, in, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, block: BottleneckWeights) -> None:
        super().__init__()
        self._stride = block.stride
        self.convolutions = ModuleList([Convolution(conv) for conv in block.convolutions])
        self.shortcut = None if block.shortcut is None else Convolution(block.shortcut)

    def forward(self, op: Op, x: Value) -> Value:
        narrow, spatial, wide = self.convolutions
        inner = op.Relu(spatial(op, op.Relu(narrow(op, x))))
        if self._stride > 1:
            inner, x = _average(op, inner, self._stride), _average(op, x, self._stride)
        if self.shortcut is not None:
            x = self.shortcut(op, x)
        return op.Relu(op.Add(wide(op, inner), x))


class AttentionPool(Module):
    """Attention of the average to itself and all places: (N, C, H, W) -> (N, D), unit rows."""

    def __init__(self, tower: ModifiedResNetWeights) -> None:
        super().__init__()
        places, self._width = tower.positions.shape
        self.positions = constant((places, self._width), tower.positions.float32)
        self.attention = OneQuery(tower.heads, tower.query, tower.key, tower.value)
        self.out = Linear(tower.out, behind=tower.value)

    def forward(self, op: Op, x: Value) -> Value:
        x = op.Transpose(op.Reshape(x, [0, self._width, -1]), perm=[0, 2, 1])
        x = op.Concat(op.ReduceMean(x, [1], keepdims=1), x, axis=1)
        x = op.Add(x, self.positions)
        pooled = self.out(op, self.attention(op, op.Slice(x, [0], [1], [1]), x))
        return unit(op, op.Squeeze(pooled, [1]))


def _average(op: Op, x: Value, side: int) -> Value:
    return op.AveragePool(x, kernel_shape=[side] * 2, strides=[side] * 2)
