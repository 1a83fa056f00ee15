"""Vision transformers: uint8 pixels in, unit vectors out (Radford et al. 2021)."""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from bareclip.bundle import ImageRecipe

from .attention import Block, ClassBlock
from .attention_pooling import AttentionPooling
from .layers import FLOAT, LAST, Head, Norm, Op, Value, constant
from .weights import AttentionPoolingWeights, BlockWeights, VisionTransformerWeights


class VisionTransformer(Module):
    """(N, image_size, image_size, 3) uint8 -> (N, D) float32, unit rows.

    The normalisation of pixels, the class token, the patches' bias and the positions are all
    folded into the patch projection's weight and one table that is added after it.
    """

    def __init__(
        self, tower: VisionTransformerWeights, recipe: ImageRecipe, blocks: Module | None = None
    ) -> None:
        """Takes a tower's weights.

        Args:
            tower: The tower.
            recipe: Of its pixels.
            blocks: All of its blocks, where they are none of ``attention``'s.
        """
        super().__init__()
        self._tower, self._recipe = tower, recipe
        self._patch, self._grid = tower.patch_size, tower.image_size // tower.patch_size
        width = tower.patch.shape[0]
        self.patch = constant((3 * self._patch**2, width), self._fold_patch)
        self.positions = constant(tower.positions.shape, self._fold_positions)
        self.pre_norm = None if tower.pre_norm is None else Norm(tower.pre_norm)
        self.blocks = all_blocks(tower) if blocks is None else blocks
        self.head = head_of(tower)

    def forward(self, op: Op, pixels: Value) -> Value:
        grid, patch = self._grid, self._patch
        if grid * patch < self._tower.image_size:
            pixels = op.Slice(pixels, [0, 0], [grid * patch, grid * patch], [1, 2])
        # Bytes are rearranged before they become floats four times their size.
        rows = op.Reshape(pixels, [0, grid, patch, grid, patch * 3])
        rows = op.Transpose(rows, perm=[0, 1, 3, 2, 4])
        patches = op.Cast(op.Reshape(rows, [0, grid * grid, patch * patch * 3]), to=FLOAT)
        tokens = op.MatMul(patches, self.patch)
        if self._tower.class_embedding is not None:
            # An empty row in front, where the positions' table holds the class token.
            tokens = op.Pad(tokens, [0, 1, 0, 0, 0, 0])
        tokens = op.Add(tokens, self.positions)
        if self.pre_norm is not None:
            tokens = self.pre_norm(op, tokens)
        return self.head(op, self.blocks(op, tokens))

    def _fold_patch(self) -> NDArray[np.float64]:
        """(patch * patch * 3, W): takes bytes, as (x * scale - mean) / std would be taken."""
        kernel = self._tower.patch.float64().transpose(2, 3, 1, 0)
        gain = self._recipe.scale / np.array(self._recipe.std)
        return (kernel * gain[:, None]).reshape(-1, kernel.shape[3])

    def _fold_positions(self) -> NDArray[np.float64]:
        """(tokens, W): positions, with the class token, bias and the mean's share added."""
        tower, table = self._tower, self._tower.positions.float64()
        first = 0
        if tower.class_embedding is not None:
            first = 1
            table[0] += tower.class_embedding.float64()
        if tower.patch_bias is not None:
            table[first:] += tower.patch_bias.float64()
        offset = np.array(self._recipe.mean) / np.array(self._recipe.std)
        table[first:] -= np.einsum("wchx,c->w", tower.patch.float64(), offset)
        return table


class _ClassToken(Module):
    """All blocks: (N, T, W) -> (N, 1, W), the class token's."""

    def __init__(self, blocks: tuple[BlockWeights, ...]) -> None:
        super().__init__()
        self.full = ModuleList([Block(block) for block in blocks[:-1]])
        self.last = ClassBlock(blocks[-1])

    def forward(self, op: Op, x: Value) -> Value:
        for block in self.full:
            x = block(op, x)
        return self.last(op, x)


class _AllTokens(Module):
    """All blocks: (N, T, W) -> (N, T, W)."""

    def __init__(self, blocks: tuple[BlockWeights, ...]) -> None:
        super().__init__()
        self.full = ModuleList([Block(block) for block in blocks])

    def forward(self, op: Op, x: Value) -> Value:
        for block in self.full:
            x = block(op, x)
        return x


class _Average(Module):
    """The patches' average, normalised and projected: (N, T, W) -> (N, D), unit rows."""

    def __init__(self, tower: VisionTransformerWeights) -> None:
        super().__init__()
        self._first = 0 if tower.class_embedding is None else 1
        before = tower.pooling == "average_of_normed"
        self.norm = Norm(tower.post_norm) if before else None
        post_norm = None if before else tower.post_norm
        self.head = Head(post_norm, tower.projection, tower.projection_bias)

    def forward(self, op: Op, x: Value) -> Value:
        if self.norm is not None:
            x = self.norm(op, x)
        if self._first:
            x = op.Slice(x, [self._first], [LAST], [1])
        return self.head(op, op.ReduceMean(x, [1], keepdims=1))


def all_blocks(tower: VisionTransformerWeights) -> Module:
    """The blocks: (N, T, W) -> (N, T, W), or (N, 1, W) where the class token is pooled."""
    return _ClassToken(tower.blocks) if tower.pooling == "class" else _AllTokens(tower.blocks)


def head_of(tower: VisionTransformerWeights) -> Module:
    """What makes unit vectors of what the blocks give."""
    if tower.pooling == "class":
        return Head(tower.post_norm, tower.projection, tower.projection_bias)
    if isinstance(tower.pooling, AttentionPoolingWeights):
        return AttentionPooling(
            tower.pooling, tower.post_norm, tower.projection, tower.projection_bias
        )
    return _Average(tower)
