"""FastViT as MobileCLIP has it: uint8 pixels in, unit vectors out.

Vasu et al. 2023, "FastViT"; 2024, "MobileCLIP". What training has in branches is one convolution
here. Shapes: N batch, C channels, S places a side, T = S * S places.
"""

import numpy as np
from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from ..tensors import Tensor
from .attention import Attention, attention_scale
from .convolutional_weights import (
    BatchNormWeights,
    ConvMlpWeights,
    FastViTJoinWeights,
    FastViTStageWeights,
    FastViTWeights,
    PlacesAttentionWeights,
    RepMixerWeights,
    SqueezeWeights,
)
from .folding import behind, folded, mixed, pointwise, scaled, summed, with_input
from .layers import FLOAT, Head, Linear, Mlp, Norm, Op, Unbiased, Value, activate, constant
from .weights import LinearWeights, MlpWeights


class FastViT(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    Of the pixels' normalisation the division is folded into the first convolution. The mean is
    not: that convolution pads with zeros after it.
    """

    def __init__(self, tower: FastViTWeights, recipe: ImageRecipe) -> None:
        super().__init__()
        mean = np.array(recipe.mean) / recipe.scale
        self.mean = constant((3,), lambda: mean) if mean.any() else None
        first, second, third = map(summed, tower.stem)
        width = third.weight.shape[0]
        self.stem = ModuleList(
            [
                Convolution(_of_pixels(first, recipe), stride=2),
                Convolution(second, stride=2, groups=width),
                Convolution(third),
            ]
        )
        places = tower.image_size // 4
        stages: list[Module] = []
        for stage in tower.stages:
            places //= 1 if stage.join is None else 2
            stages.append(Stage(stage, width, places))
            width = stage.width
        self.stages = ModuleList(stages)
        self.last = Convolution(summed(tower.last), groups=width)
        self.squeeze = Squeeze(tower.squeeze)
        self.head = Head(None, tower.projection.weight, tower.projection.bias)
        self._width = tower.projection.weight.shape[1]

    def forward(self, op: Op, pixels: Value) -> Value:
        x = op.Cast(pixels, to=FLOAT)
        if self.mean is not None:
            x = op.Sub(x, self.mean)
        x = op.Transpose(x, perm=[0, 3, 1, 2])
        for convolution in self.stem:
            x = activate(op, convolution(op, x), "gelu")
        for stage in self.stages:
            x = stage(op, x)
        x = activate(op, self.squeeze(op, self.last(op, x)), "gelu")
        return self.head(op, op.Reshape(op.GlobalAveragePool(x), [0, 1, self._width]))


class Stage(Module):
    """Places joined, where they are, positions, and blocks: (N, C, S, S) -> (N, C', S', S')."""

    def __init__(self, stage: FastViTStageWeights, into: int, places: int) -> None:
        super().__init__()
        self.join = None if stage.join is None else Join(stage.join, into)
        self.positions, width = None, stage.width
        if stage.positions is not None:
            self.positions = Convolution(with_input(stage.positions), groups=width)
        parts: list[Module] = []
        for mixer, mlp in stage.blocks:
            if isinstance(mixer, RepMixerWeights):
                parts.append(Convolution(mixed(mixer), groups=width))
            else:
                parts.append(PlacesAttention(mixer, places))
            parts.append(ConvMlp(mlp))
        self.blocks = ModuleList(parts)

    def forward(self, op: Op, x: Value) -> Value:
        if self.join is not None:
            x = self.join(op, x)
        if self.positions is not None:
            x = self.positions(op, x)
        for part in self.blocks:
            x = part(op, x)
        return x


class Convolution(Module):
    """(N, C, S, S) -> (N, C', S / stride, S / stride), padded by half its side."""

    def __init__(self, layer: LinearWeights, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        out, grouped, self._side, _ = layer.weight.shape
        self._stride, self._groups = stride, groups
        self.weight = constant((out, grouped, self._side, self._side), layer.weight.float32)
        self.bias = constant((out,), layer.bias.float32)

    def forward(self, op: Op, x: Value) -> Value:
        return op.Conv(
            x,
            self.weight,
            self.bias,
            group=self._groups,
            kernel_shape=[self._side] * 2,
            strides=[self._stride] * 2,
            pads=[self._side // 2] * 4,
        )


class Squeeze(Module):
    """(N, C, S, S) -> the same, each channel times a number below 1 (Hu et al. 2018)."""

    def __init__(self, squeeze: SqueezeWeights) -> None:
        super().__init__()
        self.reduce = Convolution(squeeze.reduce)
        self.expand = Convolution(squeeze.expand)

    def forward(self, op: Op, x: Value) -> Value:
        gate = op.Relu(self.reduce(op, op.GlobalAveragePool(x)))
        return op.Mul(x, op.Sigmoid(self.expand(op, gate)))


class Join(Module):
    """(N, C, S, S) -> (N, C', S / 2, S / 2)."""

    def __init__(self, join: FastViTJoinWeights, into: int) -> None:
        super().__init__()
        self.spatial = Convolution(summed(join.spatial), stride=2, groups=into)
        self.squeeze = None if join.squeeze is None else Squeeze(join.squeeze)
        self.pointwise = Convolution(summed(join.pointwise))

    def forward(self, op: Op, x: Value) -> Value:
        x = self.spatial(op, x)
        if self.squeeze is not None:
            x = self.squeeze(op, x)
        return activate(op, self.pointwise(op, activate(op, x, "gelu")), "gelu")


class ConvMlp(Module):
    """(N, C, S, S) -> the same: what is near, then place by place, added.

    The MLP is of products, which int8 and int4 make smaller and faster; in float32 a convolution of
    single places takes as long.
    """

    def __init__(self, block: ConvMlpWeights) -> None:
        super().__init__()
        width, mlp = block.scale.shape[0], block.mlp
        self.spatial = Convolution(folded(block.convolution), groups=width)
        self.mlp = Mlp(
            MlpWeights(
                mlp.activation,
                pointwise(mlp.expand),
                pointwise(scaled(mlp.contract, block.scale)),
            )
        )

    def forward(self, op: Op, x: Value) -> Value:
        rows = op.Transpose(self.spatial(op, x), perm=[0, 2, 3, 1])
        return op.Add(x, op.Transpose(self.mlp(op, rows), perm=[0, 3, 1, 2]))


class PlacesAttention(Module):
    """(N, C, S, S) -> the same: attention of all places to all, added."""

    def __init__(self, block: PlacesAttentionWeights, places: int) -> None:
        super().__init__()
        width = block.out.weight.shape[0]
        parts, self.norm = [block.query, block.key, block.value], None
        if isinstance(block.norm, BatchNormWeights):
            parts = [behind(part, block.norm) for part in parts]
        else:
            self.norm = Norm(block.norm)
        query, key, value = parts
        self.query = Linear(query, scale=attention_scale(block.heads, width))
        self.key, self.value = Unbiased(key), Unbiased(value)
        self.out = Linear(scaled(block.out, block.scale), behind=value)
        self._attention, self._width = Attention(block.heads, width), width
        self._places = places

    def forward(self, op: Op, x: Value) -> Value:
        rows = op.Transpose(op.Reshape(x, [0, self._width, self._places**2]), perm=[0, 2, 1])
        if self.norm is not None:
            rows = self.norm(op, rows)
        query, key, value = self.query(op, rows), self.key(op, rows), self.value(op, rows)
        rows = self.out(op, self._attention(op, query, key, value, None))
        rows = op.Reshape(
            op.Transpose(rows, perm=[0, 2, 1]), [0, self._width, self._places, self._places]
        )
        return op.Add(x, rows)


def _of_pixels(layer: LinearWeights, recipe: ImageRecipe) -> LinearWeights:
    """A convolution that takes bytes from which the mean has been taken."""
    gain = (recipe.scale / np.array(recipe.std))[:, None, None]
    weight = layer.weight
    return LinearWeights(Tensor(weight.shape, lambda: weight.float64() * gain), layer.bias)
