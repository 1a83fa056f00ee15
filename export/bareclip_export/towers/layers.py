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
# Where a Slice ends that takes all that is left.
LAST = np.iinfo(np.int64).max


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

    def __init__(self, block: weights.Block | weights.AttentionPooling) -> None:
        super().__init__()
        self.expand = Linear(block.expand)
        self.contract = Linear(block.contract)
        self._activation = block.activation

    def forward(self, op: Op, x: Value) -> Value:
        x = self.expand(op, x)
        return self.contract(op, activate(op, x, self._activation))


def activate(op: Op, x: Value, activation: weights.Activation) -> Value:
    """Element by element."""
    if activation == "quick_gelu":
        return op.Mul(x, op.Sigmoid(op.Mul(x, 1.702)))
    if activation == "gelu":
        erf = op.Erf(op.Mul(x, 1 / math.sqrt(2)))
        return op.Mul(op.Mul(x, op.Add(erf, 1.0)), 0.5)
    # Hendrycks and Gimpel 2016, the approximation of "Gaussian Error Linear Units".
    cube = op.Mul(op.Mul(op.Mul(x, x), x), 0.044715)
    tanh = op.Tanh(op.Mul(op.Add(x, cube), math.sqrt(2 / math.pi)))
    return op.Mul(op.Mul(x, op.Add(tanh, 1.0)), 0.5)


class Attention:
    """Of several heads: cuts (N, T, W) into them, mixes, and joins the result."""

    def __init__(self, heads: int, width: int) -> None:
        self.heads, self.head_width = heads, width // heads
        # The attention's 1/sqrt(head width), which towers fold into their queries.
        self.scale = 1 / math.sqrt(self.head_width)

    def __call__(
        self, op: Op, query: Value, key: Value, value: Value, mask: Value | None = None
    ) -> Value:
        """Attention of queries to keys.

        Args:
            op: The builder.
            query: (N, Q, W), scaled.
            key, value: (N, T, W).
            mask: Added to the logits (N, H, Q, T); None for none.

        Returns:
            (N, Q, W).
        """
        return self.of_heads(op, self._split(op, query, [0, 2, 1, 3]), key, value, mask)

    def of_heads(
        self, op: Op, query: Value, key: Value, value: Value, mask: Value | None = None
    ) -> Value:
        """The same, of (N or 1, H, Q, W/H) queries that are cut into heads already."""
        logits = op.MatMul(query, self._split(op, key, [0, 2, 3, 1]))
        if mask is not None:
            logits = op.Add(logits, mask)
        mixed = op.MatMul(op.Softmax(logits, axis=-1), self._split(op, value, [0, 2, 1, 3]))
        return op.Reshape(
            op.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, self.heads * self.head_width]
        )

    def _split(self, op: Op, x: Value, perm: list[int]) -> Value:
        """(N, T, W) to heads, its four axes N T H W/H then in the order ``perm``."""
        return op.Transpose(op.Reshape(x, [0, 0, self.heads, self.head_width]), perm=perm)


class Block(Module):
    """A pre-norm transformer block: (N, T, W) -> (N, T, W)."""

    def __init__(self, block: weights.Block) -> None:
        super().__init__()
        self._attention = Attention(block.heads, block.query.weight.shape[0])
        self.attention_norm = Norm(block.attention_norm)
        self.out = Linear(block.out)
        self.mlp_norm = Norm(block.mlp_norm)
        self.mlp = Mlp(block)
        self._add_projections(block)

    def _add_projections(self, block: weights.Block) -> None:
        self.query_key_value = Linear(
            block.query, block.key, block.value, scales=(self._attention.scale, 1.0, 1.0)
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
        x = op.Add(x, self.out(op, self._attention(op, query, key, value, mask)))
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x)))


class PooledBlock(Block):
    """The last block, for the one token that leaves the tower: (N, T, W) -> (N, 1, W).

    Keys and values still come from all tokens; queries and the MLP are needed for one.
    """

    def _add_projections(self, block: weights.Block) -> None:
        self.query = Linear(block.query, scales=(self._attention.scale,))
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

    def __init__(
        self, norm: weights.Norm | None, projection: Tensor | None, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else Norm(norm)
        self.projection = self.bias = None
        if projection is not None:
            out, width = projection.shape
            self.projection = constant((width, out), projection.transposed().float32)
        if bias is not None:
            self.bias = constant(bias.shape, bias.float32)

    def forward(self, op: Op, pooled: Value) -> Value:
        """(N, 1, W) -> (N, D)."""
        if self.norm is not None:
            pooled = self.norm(op, pooled)
        vector = op.Squeeze(pooled, [1])
        if self.projection is not None:
            vector = op.MatMul(vector, self.projection)
        if self.bias is not None:
            vector = op.Add(vector, self.bias)
        return unit(op, vector)


def unit(op: Op, vector: Value) -> Value:
    """(N, D) rows scaled to length 1."""
    return op.Div(vector, op.ReduceL2(vector, [-1], keepdims=1))
