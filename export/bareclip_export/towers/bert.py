"""Text towers like BERT's: token ids in, unit vectors out (Devlin et al. 2019, RoBERTa's too)."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from .attention import Block, EndBlock
from .layers import Norm, Op, Value, activate, constant, unit, widened
from .weights import BertWeights, ProjectionWeights


class _PostNorm(Block):
    """Normalises sums, and not what attention and MLP take."""

    def _normed(self, op: Op, x: Value) -> Value:
        return widened(op, x, self._width)

    def finish(self, op: Op, x: Value, attended: Value) -> Value:
        x = self.attention_norm(op, op.Add(x, self.out(op, attended)))
        return self.mlp_norm(op, op.Add(x, self.mlp(op, x)))


class _PostNormBlock(_PostNorm):
    """(N, T, W) -> (N, T, W)."""


class _PostNormEndBlock(_PostNorm, EndBlock):
    """The last block, for one token: (N, T, W) -> (N, 1, W)."""


class Bert(Module):
    """(N, T) int64 ids -> (N, D) float32, unit rows; T up to the context length.

    Padding is found by its id, so the graph needs no attention mask as an input.
    """

    block: type[Block] = _PostNormBlock
    end_block: type[EndBlock] = _PostNormEndBlock

    def __init__(self, tower: BertWeights) -> None:
        super().__init__()
        self._tower = tower
        self.tokens = constant(tower.tokens.shape, tower.tokens.float32)
        self.positions = constant(tower.positions.shape, self._fold_types)
        self.norm = Norm(tower.norm)
        first = tower.pooling == "first"
        whole = tower.blocks[:-1] if first else tower.blocks
        self.blocks = ModuleList([self.block(block) for block in whole])
        self.last = self.end_block(tower.blocks[-1]) if first else None
        self.projections = ModuleList([_Projection(layer) for layer in tower.projections])

    def forward(self, op: Op, ids: Value) -> Value:
        length = op.Shape(ids, start=1, end=2)
        present = op.Not(op.Equal(ids, self._tower.pad_id))
        counts = op.Cast(present, to=ir.DataType.INT64)
        seen = present
        if not self._tower.hides_all_padding:
            # All up to the last token that is no padding.
            seen = op.Greater(op.CumSum(counts, 1, reverse=1), 0)
        if self._tower.counted:
            places = op.Gather(self.positions, op.Mul(op.CumSum(counts, 1), counts))
        else:
            places = op.Slice(self.positions, [0], length, [0])
        x = self.enter(op, op.Add(op.Gather(self.tokens, ids), places))
        # Of one query, and of all: ONNX Runtime's fused attention widens no mask.
        one = op.Where(op.Unsqueeze(seen, [1, 2]), 0.0, -np.inf)
        mask = op.Expand(one, op.Concat([1, 1], length, [1], axis=0))
        for block in self.blocks:
            x = block(op, x, mask)
        if self.last is not None:
            x = self.last(op, x, one, None, lambda x: op.Slice(x, [0], [1], [1]))
            vector = op.Squeeze(self.leave(op, x), [1])
        else:
            x = self.leave(op, x)
            share = op.Cast(op.Unsqueeze(seen, [2]), to=ir.DataType.FLOAT)
            total = op.ReduceSum(op.Mul(x, share), [1], keepdims=0)
            vector = op.Div(total, op.ReduceSum(share, [1], keepdims=0))
        for projection in self.projections:
            vector = projection(op, vector)
        return unit(op, vector)

    def enter(self, op: Op, x: Value) -> Value:
        """What the blocks take, of (N, T, W) tokens and their places."""
        return self.norm(op, x)

    def leave(self, op: Op, x: Value) -> Value:
        """What is pooled, of what the blocks give."""
        return x

    def _fold_types(self) -> NDArray[np.float64]:
        """Positions, and the segment that every text is."""
        rows = self._tower.positions.float64()
        return rows if self._tower.types is None else rows + self._tower.types.float64()[0]


class _Projection(Module):
    """A linear layer and its activation: (N, in) -> (N, out)."""

    def __init__(self, layer: ProjectionWeights) -> None:
        super().__init__()
        out, width = layer.weight.shape
        self.weight = constant((width, out), layer.weight.transposed().float32)
        self.bias = None if layer.bias is None else constant((out,), layer.bias.float32)
        self._activation = layer.activation

    def forward(self, op: Op, vector: Value) -> Value:
        vector = op.MatMul(vector, self.weight)
        if self.bias is not None:
            vector = op.Add(vector, self.bias)
        if self._activation == "tanh":
            return op.Tanh(vector)
        return vector if self._activation is None else activate(op, vector, self._activation)
