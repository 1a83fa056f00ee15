"""CLIP's causal text transformer: token ids in, unit vectors out (Radford et al. 2021)."""

import numpy as np
import onnx_ir as ir
from onnxscript.nn import Module

from . import weights
from .layers import Blocks, Head, Op, Value, constant


class TextTransformer(Module):
    """(N, T) int64 ids -> (N, D) float32, unit rows; T up to the context length.

    Attention looks back only and the end token is pooled, so whatever pads a text after
    its end changes nothing, and the graph needs no attention mask as an input.
    """

    def __init__(self, tower: weights.TextTransformer) -> None:
        super().__init__()
        self._end_id = tower.end_id
        context = tower.positions.shape[0]
        self.tokens = constant(tower.tokens.shape, tower.tokens.float32)
        self.positions = constant(tower.positions.shape, tower.positions.float32)
        self.causal_mask = constant(
            (context, context), lambda: np.triu(np.full((context, context), -np.inf), k=1)
        )
        self.blocks = Blocks(tower.blocks)
        self.head = Head(tower.post_norm, tower.projection)

    def forward(self, op: Op, ids: Value) -> Value:
        length = op.Shape(ids, start=1, end=2)
        x = op.Add(op.Gather(self.tokens, ids), op.Slice(self.positions, [0], length, [0]))
        mask = op.Slice(self.causal_mask, [0], length, [1])
        end = self._end(op, ids)
        # The end token's row of the mask: (N, T) -> (N, 1, 1, T).
        pooled_mask = op.Unsqueeze(op.Gather(mask, end), [1, 2])
        mask = op.Slice(mask, [0], length, [0])
        index = op.Unsqueeze(end, [1, 2])

        def pool(tokens: Value) -> Value:
            return op.GatherND(tokens, index, batch_dims=1)

        return self.head(op, self.blocks(op, x, mask, pooled_mask, pool))

    def _end(self, op: Op, ids: Value) -> Value:
        """(N,) the place of each text's end token."""
        marked = ids if self._end_id is None else op.Equal(ids, self._end_id)
        # CUDA has ArgMax of floats only; float32 holds every token id exactly.
        return op.ArgMax(op.Cast(marked, to=ir.DataType.FLOAT), axis=1, keepdims=0)
