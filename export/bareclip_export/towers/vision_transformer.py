"""CLIP's vision transformer: uint8 pixels in, unit vectors out (Radford et al. 2021)."""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module

from bareclip.bundle import ImageRecipe

from . import weights
from .layers import FLOAT, Blocks, Head, Norm, Op, Value, constant


class VisionTransformer(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    The normalisation of pixels, the class token and the positions are all folded into
    the patch projection's weight and one table that is added after it.
    """

    def __init__(self, tower: weights.VisionTransformer, recipe: ImageRecipe) -> None:
        super().__init__()
        self._tower, self._recipe = tower, recipe
        self._patch, self._grid = tower.patch_size, tower.image_size // tower.patch_size
        width = tower.patch.shape[0]
        self.patch = constant((3 * self._patch**2, width), self._fold_patch)
        self.positions = constant((1 + self._grid**2, width), self._fold_positions)
        self.pre_norm = Norm(tower.pre_norm)
        self.blocks = Blocks(tower.blocks)
        self.head = Head(tower.post_norm, tower.projection)

    def forward(self, op: Op, pixels: Value) -> Value:
        grid, patch = self._grid, self._patch
        if grid * patch < self._tower.image_size:
            pixels = op.Slice(pixels, [0, 0], [grid * patch, grid * patch], [1, 2])
        # Bytes are rearranged before they become floats four times their size.
        rows = op.Reshape(pixels, [0, grid, patch, grid, patch * 3])
        rows = op.Transpose(rows, perm=[0, 1, 3, 2, 4])
        patches = op.Cast(op.Reshape(rows, [0, grid * grid, patch * patch * 3]), to=FLOAT)
        # An empty row in front, where the positions' table holds the class token.
        tokens = op.Pad(op.MatMul(patches, self.patch), [0, 1, 0, 0, 0, 0])
        tokens = self.pre_norm(op, op.Add(tokens, self.positions))
        return self.head(op, self.blocks(op, tokens, None, None, lambda x: _class_token(op, x)))

    def _fold_patch(self) -> NDArray[np.float64]:
        """(patch * patch * 3, W): takes bytes, as (x * scale - mean) / std would be taken."""
        kernel = self._tower.patch.float64().transpose(2, 3, 1, 0)
        gain = self._recipe.scale / np.array(self._recipe.std)
        return (kernel * gain[:, None]).reshape(-1, kernel.shape[3])

    def _fold_positions(self) -> NDArray[np.float64]:
        """(1 + patches, W): positions, with the class token and the mean's share added."""
        table = self._tower.positions.float64()
        table[0] += self._tower.class_embedding.float64()
        offset = np.array(self._recipe.mean) / np.array(self._recipe.std)
        table[1:] -= np.einsum("wchx,c->w", self._tower.patch.float64(), offset)
        return table


def _class_token(op: Op, x: Value) -> Value:
    return op.Slice(x, [0], [1], [1])
