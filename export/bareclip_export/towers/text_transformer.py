"""Text transformers: token ids in, unit vectors out (Radford et al. 2021)."""

import numpy as np
import onnx_ir as ir
from onnxscript.nn import Module

from . import weights
from .layers import LAST, Blocks, Head, Op, Value, constant


class TextTransformer(Module):
    """(N, T) int64 ids -> (N, D) float32, unit rows; T up to the context length.

    Where attention looks back only and the end token is pooled, whatever pads a text after
    its end changes nothing, and the graph needs no attention mask as an input.
    """

    def __init__(self, tower: weights.TextTransformer) -> None:
        super().__init__()
        self._pooling = tower.pooling
        context = tower.positions.shape[0]
        self.tokens = constant(tower.tokens.shape, tower.tokens.float32)
        self.positions = constant(tower.positions.shape, tower.positions.float32)
        self.causal_mask = None
        if tower.causal:
            self.causal_mask = constant(
                (context, context), lambda: np.triu(np.full((context, context), -np.inf), k=1)
            )
        self.blocks = Blocks(tower.blocks)
        self.head = Head(tower.post_norm, tower.projection, tower.projection_bias)

    def forward(self, op: Op, ids: Value) -> Value:
        length = op.Shape(ids, start=1, end=2)
        x = op.Add(op.Gather(self.tokens, ids), op.Slice(self.positions, [0], length, [0]))
        mask = pooled_mask = None
        if self.causal_mask is not None:
            mask = op.Slice(self.causal_mask, [0], length, [1])
        if self._pooling == "last":
            # It comes after all others, so no mask hides one from it.
            def pool(tokens: Value) -> Value:
                return op.Slice(tokens, [-1], [LAST], [1])
        else:
            place = self._place(op, ids)
            if mask is not None:
                # The pooled token's row of the mask: (N, T) -> (N, 1, 1, T).
                pooled_mask = op.Unsqueeze(op.Gather(mask, place), [1, 2])
            index = op.Unsqueeze(place, [1, 2])

            def pool(tokens: Value) -> Value:
                return op.GatherND(tokens, index, batch_dims=1)

        if mask is not None:
            mask = op.Slice(mask, [0], length, [0])
        return self.head(op, self.blocks(op, x, mask, pooled_mask, pool))

    def _place(self, op: Op, ids: Value) -> Value:
        """(N,) the place of the token that leaves the tower."""
        marked = ids if self._pooling == "highest" else op.Equal(ids, self._pooling)
        # CUDA has ArgMax of floats only; float32 holds every token id exactly.
        return op.ArgMax(op.Cast(marked, to=ir.DataType.FLOAT), axis=1, keepdims=0)
