"""Text transformers: token ids in, unit vectors out (Radford et al. 2021)."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnxscript.nn import Module, ModuleList

from .attention import Block, EndBlock
from .layers import LAST, Head, Op, Value, constant
from .prefixes import Prefixes, find_prefixes
from .weights import BlockWeights, TextTransformerWeights


class TextTransformer(Module):
    """(N, T) int64 ids -> (N, D) float32, unit rows; T up to the context length.

    Where attention looks back only and the end token is pooled, whatever pads a text after
    its end changes nothing, so the graph needs no attention mask as an input; and texts that
    begin alike share rows.
    """

    def __init__(self, tower: TextTransformerWeights) -> None:
        super().__init__()
        self._pooling = tower.pooling
        context, self._width = tower.positions.shape
        self.tokens = constant(tower.tokens.shape, tower.tokens.float32)
        self.positions = constant(tower.positions.shape, tower.positions.float32)
        self.causal_mask = None
        if tower.causal:
            self.causal_mask = constant(
                (context, context), lambda: np.triu(np.full((context, context), -np.inf), k=1)
            )
        self.blocks = _Blocks(tower.blocks)
        self.head = Head(tower.post_norm, tower.projection, tower.projection_bias)

    def forward(self, op: Op, ids: Value) -> Value:
        length = op.Shape(ids, start=1, end=2)
        x = op.Add(op.Gather(self.tokens, ids), op.Slice(self.positions, [0], length, [0]))
        mask = None
        if self.causal_mask is not None:
            mask = op.Slice(self.causal_mask, [0, 0], op.Concat(length, length, axis=0), [0, 1])
        if self._pooling == "last":
            # It comes after all others, so no mask hides one from it.
            return self.head(op, self.blocks(op, x, lambda x: op.Slice(x, [-1], [LAST], [1]), mask))
        end = self._end(op, ids)
        if mask is None:
            place = op.Unsqueeze(end, [1, 2])
            return self.head(op, self.blocks(op, x, lambda x: op.GatherND(x, place, batch_dims=1)))
        prefixes = find_prefixes(op, ids, end, self._width)
        last_row = op.GatherND(prefixes.rows, op.Unsqueeze(end, [1]), batch_dims=1)
        pooled = self.blocks(
            op,
            prefixes.collect(op, x),
            lambda x: op.Unsqueeze(op.Gather(x, last_row), [1]),
            mask,
            op.Unsqueeze(op.Gather(mask, end), [1, 2]),
            prefixes,
        )
        return self.head(op, pooled)

    def _end(self, op: Op, ids: Value) -> Value:
        """(N,) the place of the token that leaves the tower."""
        marked = ids if self._pooling == "highest" else op.Equal(ids, self._pooling)
        # CUDA has ArgMax of floats only; float32 holds every token id exactly.
        return op.ArgMax(op.Cast(marked, to=ir.DataType.FLOAT), axis=1, keepdims=0)


class _Blocks(Module):
    """All blocks: (R, W) -> (N, 1, W), the pooled token's."""

    def __init__(self, blocks: tuple[BlockWeights, ...]) -> None:
        super().__init__()
        self.full = ModuleList([Block(block) for block in blocks[:-1]])
        self.last = EndBlock(blocks[-1])

    def forward(
        self,
        op: Op,
        x: Value,
        pool: Callable[[Value], Value],
        mask: Value | None = None,
        pooled_mask: Value | None = None,
        prefixes: Prefixes | None = None,
    ) -> Value:
        """Runs the blocks.

        Args:
            op: The builder.
            x: (R, W).
            pool: (R, W) -> (N, 1, W).
            mask: Added to the logits (N, H, T, T) of all blocks but the last.
            pooled_mask: (N, 1, 1, T), added to the last one's.
            prefixes: Where rows are shared.
        """
        for block in self.full:
            x = block(op, x, mask, prefixes)
        return self.last(op, x, pooled_mask, prefixes, pool)
