"""What Pillow does to a picture before a vision tower sees it, as a graph."""

import onnx_ir as ir
from onnxscript.nn import Module

from bareclip.bundle import ImageRecipe

from ..errors import CheckpointError
from .layers import FLOAT, Op, Value
from .resampling import FILTERS, resampled


class Picture(Module):
    """(H, W, 3) uint8, RGB -> (1, size, size, 3) uint8: resized and cropped as the recipe says."""

    def __init__(self, recipe: ImageRecipe) -> None:
        super().__init__()
        if recipe.interpolation not in FILTERS:
            raise CheckpointError(
                f"pictures are resized by {recipe.interpolation}; whole graphs are made for "
                f"{' and '.join(FILTERS)}"
            )
        self._recipe = recipe

    def forward(self, op: Op, image: Value) -> Value:
        height, width = (op.Shape(image, start=axis, end=axis + 1) for axis in (0, 1))
        target = self._recipe.resize_to
        if self._recipe.resize == "shortest":
            shorter = op.Min(height, width)
            to_height, to_width = (
                op.Div(op.Mul(side, target), shorter) for side in (height, width)
            )
        else:
            to_height = to_width = op.Constant(value_ints=[target])
        kind = FILTERS[self._recipe.interpolation]
        # Rows first, in two steps, as every recipe means it.
        columns = op.Reshape(op.Transpose(image, perm=[1, 2, 0]), op.Concat(width, [-1], axis=0))
        x = resampled(op, columns, to_width, kind)
        x = op.Transpose(op.Reshape(x, op.Concat(to_width, [3], height, axis=0)), perm=[2, 0, 1])
        x = resampled(op, op.Reshape(x, op.Concat(height, [-1], axis=0)), to_height, kind)
        x = op.Reshape(x, op.Concat(to_height, to_width, [3], axis=0))
        start = op.Concat(self._cut(op, to_height), self._cut(op, to_width), axis=0)
        x = op.Slice(x, start, op.Add(start, self._recipe.size), [0, 1])
        return op.Unsqueeze(x, [0])

    def _cut(self, op: Op, side: Value) -> Value:
        """(1,) where the part that is kept begins."""
        difference = op.Sub(side, [self._recipe.size])
        if self._recipe.crop_offset == "floor":
            return op.Div(difference, 2)
        # ONNX rounds halves to even numbers, as Python does.
        half = op.Round(op.Mul(op.Cast(difference, to=FLOAT), 0.5))
        return op.Cast(half, to=ir.DataType.INT64)
