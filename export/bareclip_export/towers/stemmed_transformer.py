"""A vision transformer behind convolutions: uint8 pixels in, unit vectors out.

As MobileCLIP-B is (Vasu et al. 2024, section 4.1): each patch's convolutions see that patch alone.
"""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from .convolutional_weights import StemmedTransformerWeights
from .folding import folded
from .layers import Op, Value, activate, constant
from .squares import PixelSquares, Squares
from .vision_transformer import all_blocks, head_of
from .weights import LinearWeights


class StemmedTransformer(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows."""

    def __init__(self, tower: StemmedTransformerWeights, recipe: ImageRecipe) -> None:
        super().__init__()
        given = self._given = tower.transformer
        if given.patch_bias is None or given.class_embedding is None:
            raise TypeError("the patches of a stemmed transformer have a bias, and a class token")
        first, *others = map(folded, tower.stem)
        self.first = PixelSquares(first, given.image_size, recipe)
        places = given.image_size // first.weight.shape[2]
        squares: list[Module] = []
        for layer in (*others, LinearWeights(given.patch, given.patch_bias)):
            squares.append(Squares(layer, places))
            places //= layer.weight.shape[2]
        self.squares = ModuleList(squares)
        patches, self._width = given.positions.shape
        self.positions = constant((1 + patches, self._width), self._fold_positions)
        self.blocks, self.head = all_blocks(given), head_of(given)

    def forward(self, op: Op, pixels: Value) -> Value:
        x = self.first(op, pixels)
        for squares in self.squares:
            x = squares(op, activate(op, x, "gelu"))
        # An empty row in front, where the positions' table holds the class token.
        tokens = op.Pad(op.Reshape(x, [0, -1, self._width]), [0, 1, 0, 0, 0, 0])
        return self.head(op, self.blocks(op, op.Add(tokens, self.positions)))

    def _fold_positions(self) -> NDArray[np.float64]:
        """(1 + patches, W): the class token, which has no position, and the patches' positions."""
        token = self._given.class_embedding
        first = [] if token is None else [token.float64()]
        return np.stack([*first, *self._given.positions.float64()])
