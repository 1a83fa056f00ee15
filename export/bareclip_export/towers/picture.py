"""What Pillow does to a picture before a vision tower sees it, as a graph.

ONNX's Resize on bytes with antialias is Pillow's resampling, by at most two levels: both round
each weight to so many bits and each pass to bytes. Of numbers that are no bytes it is not.
"""

from typing import Any

import onnx_ir as ir
from onnxscript.nn import Module

from bareclip.bundle import ImageRecipe

from ..errors import CheckpointError
from .layers import FLOAT, Op, Value

# Pillow's filters that Resize has, with what makes them the same: Pillow's cubic has a = -0.5,
# and leaves out what lies beyond the border.
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


class Picture(Module):
    """(H, W, 3) uint8, RGB -> (1, size, size, 3) uint8: resized and cropped as the recipe says."""

    def __init__(self, recipe: ImageRecipe) -> None:
        super().__init__()
        if recipe.interpolation not in _MODES:
            raise CheckpointError(
                f"pictures are resized by {recipe.interpolation}, which ONNX has no operator for: "
                f"whole graphs are made for {' and '.join(_MODES)}"
            )
        self._recipe = recipe

    def forward(self, op: Op, image: Value) -> Value:
        x = op.Unsqueeze(op.Transpose(image, perm=[2, 0, 1]), [0])
        height, width = (op.Shape(image, start=axis, end=axis + 1) for axis in (0, 1))
        target = self._recipe.resize_to
        to_height: Value | list[int] = [target]
        to_width: Value | list[int] = [target]
        if self._recipe.resize == "shortest":
            shorter = op.Min(height, width)
            to_height, to_width = (
                op.Div(op.Mul(side, target), shorter) for side in (height, width)
            )
        # Rows first: both at once would be in the order that ONNX Runtime prefers.
        x = self._resized(op, x, height, to_width)
        x = self._resized(op, x, to_height, to_width)
        if target > self._recipe.size or self._recipe.resize == "shortest":
            start = op.Concat(self._cut(op, to_height), self._cut(op, to_width), axis=0)
            x = op.Slice(x, start, op.Add(start, self._recipe.size), [2, 3])
        return op.Transpose(x, perm=[0, 2, 3, 1])

    def _resized(
        self, op: Op, x: Value, height: Value | list[int], width: Value | list[int]
    ) -> Value:
        return op.Resize(
            x,
            None,
            None,
            op.Concat([1, 3], height, width, axis=0),
            antialias=1,
            exclude_outside=1,
            **_MODES[self._recipe.interpolation],
        )

    def _cut(self, op: Op, side: Value | list[int]) -> Value:
        """(1,) where the part that is kept begins."""
        difference = op.Sub(side, [self._recipe.size])
        if self._recipe.crop_offset == "floor":
            return op.Div(difference, 2)
        # ONNX rounds halves to even numbers, as Python does.
        half = op.Round(op.Mul(op.Cast(difference, to=FLOAT), 0.5))
        return op.Cast(half, to=ir.DataType.INT64)
