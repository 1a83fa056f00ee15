"""ConvNeXt: uint8 pixels in, unit vectors out (Liu et al. 2022, "A ConvNet for the 2020s").

Shapes: N batch, S places a side, C channels. Channels come last, as normalisations and products
take them; a depthwise convolution alone has them first.
"""

from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from .convolutional_weights import ConvNeXtBlockWeights, ConvNeXtStageWeights, ConvNeXtWeights
from .folding import scaled
from .layers import Head, Linear, Mlp, Norm, Op, Value, activate, constant
from .squares import PixelSquares, Squares
from .weights import MlpWeights


class ConvNeXt(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    The normalisation of pixels is folded into the first convolution, which pads nothing.
    """

    def __init__(self, tower: ConvNeXtWeights, recipe: ImageRecipe) -> None:
        super().__init__()
        self.patch = PixelSquares(tower.patch, tower.image_size, recipe)
        self.patch_norm = Norm(tower.patch_norm)
        places = tower.image_size // tower.patch.weight.shape[2]
        stages: list[Module] = []
        for stage in tower.stages:
            stages.append(Stage(stage, places))
            places //= 1 if stage.join is None else stage.join.weight.shape[2]
        self.stages = ModuleList(stages)
        self.head = Pooled(tower)

    def forward(self, op: Op, pixels: Value) -> Value:
        x = self.patch_norm(op, self.patch(op, pixels))
        for stage in self.stages:
            x = stage(op, x)
        return self.head(op, x)


class Stage(Module):
    """Squares joined, where they are, and blocks: (N, S, S, C) -> (N, S', S', C')."""

    def __init__(self, stage: ConvNeXtStageWeights, places: int) -> None:
        super().__init__()
        self.norm = None if stage.norm is None else Norm(stage.norm)
        self.join = None if stage.join is None else Squares(stage.join, places)
        self.blocks = ModuleList([Block(block) for block in stage.blocks])

    def forward(self, op: Op, x: Value) -> Value:
        if self.norm is not None:
            x = self.norm(op, x)
        if self.join is not None:
            x = self.join(op, x)
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
