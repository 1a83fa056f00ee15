"""Layers that both towers are built of, as onnxscript modules.

Shapes: N batch, T tokens, W width, H heads. Weights are transposed to (in, out) and
folded in float64 here, so that a graph multiplies from the right and nothing else.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList, Parameter

from ..tensors import Tensor
from . import weights

Op = Any  # onnxscript's OpBuilder: every ONNX operator is an attribute of it
Value = ir.Value

FLOAT = ir.DataType.FLOAT


def constant(shape: tuple[int, ...], compute: Callable[[], NDArray[Any]]) -> Parameter:
    """A float32 weight that is computed when the graph is written, and not kept."""

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(compute(), np.float32))

    return Parameter(shape, data=ir.LazyTensor(tensor, FLOAT, ir.Shape(shape)))


class Linear(Module):
    """Several linear layers of one input as one product: (.., in) -> (.., sum of outs)."""

    def __init__(self, *parts: weights.Linear, scales: tuple[float, ...] | None = None) -> None:
        super().__init__()
        factors = scales or (1.0,) * len(parts)
        outs = sum(part.weight.shape[0] for part in parts)
        self.weight = constant(
            (parts[0].weight.shape[1], outs),
            lambda: np.concatenate(
                [p.weight.float32().T * np.float32(s) for p, s in zip(parts, factors, strict=True)],
                axis=1,
            ),
        )
        self.bias = constant(
            (outs,),
            lambda: np.concatenate(
                [p.bias.float64() * s for p, s in zip(parts, factors, strict=True)]
            ),
        )

    def forward(self, op: Op, x: Value) -> Value:
        return op.Add(op.MatMul(x, self.weight), self.bias)


class Norm(Module):
    """Layer normalisation over the last axis."""

    def __init__(self, norm: weights.Norm) -> None:
        super().__init__()
        self._epsilon = norm.epsilon
        self.scale = constant(norm.scale.shape, norm.scale.float32)
        self.bias = constant(norm.bias.shape, norm.bias.float32)

    def forward(self, op: Op, x: Value) -> Value:
        return op.LayerNormalization(x, self.scale, self.bias, axis=-1, epsilon=self._epsilon)


class Mlp(Module):
    """Expand, activate, contract: (N, T, W) -> (N, T, W)."""

    def __init__(self, block: weights.Block) -> None:
        super().__init__()
        self.expand = Linear(block.expand)
        self.contract = Linear(block.contract)
        self._activation = block.activation

    def forward(self, op: Op, x: Value) -> Value:
        x = self.expand(op, x)
        if self._activation == "quick_gelu":
            x = op.Mul(x, op.Sigmoid(op.Mul(x, 1.702)))
        else:
            erf = op.Erf(op.Mul(x, 1 / math.sqrt(2)))
            x = op.Mul(op.Mul(x, op.Add(erf, 1.0)), 0.5)
        return self.contract(op, x)


class Block(Module):
    """A pre-norm transformer block: (N, T, W) -> (N, T, W)."""

    def __init__(self, block: weights.Block) -> None:
        super().__init__()
        width = block.query.weight.shape[0]
        self._heads, self._head_width = block.heads, width // block.heads
        # 1/sqrt(head width) of the attention is folded into the queries.
        self._scale = 1 / math.sqrt(self._head_width)
        self.attention_norm = Norm(block.attention_norm)
        self.out = Linear(block.out)
        self.mlp_norm = Norm(block.mlp_norm)
        self.mlp = Mlp(block)
        self._add_projections(block)

    def _add_projections(self, block: weights.Block) -> None:
        self.query_key_value = Linear(
            block.query, block.key, block.value, scales=(self._scale, 1.0, 1.0)
        )

    def forward(self, op: Op, x: Value, mask: Value | None) -> Value:
        projected = self.query_key_value(op, self.attention_norm(op, x))
        query, key, value = op.Split(projected, axis=-1, num_outputs=3, _outputs=3)
        return self.finish(op, x, query, key, value, mask)

    def finish(
        self, op: Op, x: Value, query: Value, key: Value, value: Value, mask: Value | None
    ) -> Value:
        """Attention of ``query`` to ``key`` and ``value``, and the MLP, each added to ``x``.

        Args:
            op: The builder.
            x: (N, Q, W), what the results are added to.
            query: (N, Q, W), scaled.
            key, value: (N, T, W).
            mask: Added to the logits (N, H, Q, T); None for none.
        """
        logits = op.MatMul(self._split(op, query, [0, 2, 1, 3]), self._split(op, key, [0, 2, 3, 1]))
        if mask is not None:
            logits = op.Add(logits, mask)
        mixed = op.MatMul(op.Softmax(logits, axis=-1), self._split(op, value, [0, 2, 1, 3]))
        merged = op.Reshape(
            op.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, self._heads * self._head_width]
        )
        x = op.Add(x, self.out(op, merged))
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x)))

    def _split(self, op: Op, x: Value, perm: list[int]) -> Value:
        """(N, T, W) to heads, its four axes N T H W/H then in the order ``perm``."""
        return op.Transpose(op.Reshape(x, [0, 0, self._heads, self._head_width]), perm=perm)


class PooledBlock(Block):
    """The last block, for the one token that leaves the tower: (N, T, W) -> (N, 1, W).

    Keys and values still come from all tokens; queries and the MLP are needed for one.
    """

    def _add_projections(self, block: weights.Block) -> None:
        self.query = Linear(block.query, scales=(self._scale,))
        self.key_value = Linear(block.key, block.value)

    def forward(  # type: ignore[override]
        self, op: Op, x: Value, mask: Value | None, pool: Callable[[Value], Value]
    ) -> Value:
        normed = self.attention_norm(op, x)
        key, value = op.Split(self.key_value(op, normed), axis=-1, num_outputs=2, _outputs=2)
        query = self.query(op, pool(normed))
        return self.finish(op, pool(x), query, key, value, mask)


class Blocks(Module):
    """All blocks of a tower: (N, T, W) -> (N, 1, W), the pooled token's."""

    def __init__(self, blocks: tuple[weights.Block, ...]) -> None:
        super().__init__()
        self.full = ModuleList([Block(block) for block in blocks[:-1]])
        self.last = PooledBlock(blocks[-1])

    def forward(
        self,
        op: Op,
        x: Value,
        mask: Value | None,
        pooled_mask: Value | None,
        pool: Callable[[Value], Value],
    ) -> Value:
        for block in self.full:
            x = block(op, x, mask)
        return self.last(op, x, pooled_mask, pool)


class Head(Module):
    """Normalises the pooled token, projects it, and scales it to length 1."""

    def __init__(self, norm: weights.Norm, projection: Tensor) -> None:
        super().__init__()
        self.norm = Norm(norm)
        out, width = projection.shape
        self.projection = constant((width, out), lambda: projection.float32().T)

    def forward(self, op: Op, pooled: Value) -> Value:
        """(N, 1, W) -> (N, D)."""
        token = op.Squeeze(self.norm(op, pooled), [1])
        vector = op.MatMul(token, self.projection)
        return op.Div(vector, op.ReduceL2(vector, [-1], keepdims=1))
