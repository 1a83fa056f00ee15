"""Attention, and the transformer blocks that both towers are built of.

Shapes: N batch, T tokens, W width, H heads; R rows, the tokens that are computed at all: (N, T)
of them, or (P,) where texts share some (see ``prefixes``).

A key's bias changes all logits of a query alike, which softmax does not see, so keys have none.
A value's bias comes through attention as it is, since weights sum to 1, and is added after it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module

from .layers import Linear, Mlp, Norm, Op, Unbiased, Value, constant, spare_units, widened
from .prefixes import Prefixes
from .weights import BlockWeights, LinearWeights


class Attention:
    """Of several heads: cuts (N, T, W) into them, mixes, and joins the result."""

    def __init__(self, heads: int, width: int) -> None:
        self._heads, self._head_width = heads, width // heads

    def __call__(self, op: Op, query: Value, key: Value, value: Value, mask: Value | None) -> Value:
        """Attention of queries to keys.

        Args:
            op: The builder.
            query: (N, Q, W), scaled.
            key, value: (N, T, W).
            mask: Added to the logits (N, H, Q, T); None for none.

        Returns:
            (N, Q, W).
        """
        logits = op.MatMul(self._split(op, query, [0, 2, 1, 3]), self._split(op, key, [0, 2, 3, 1]))
        if mask is not None:
            logits = op.Add(logits, mask)
        mixed = op.MatMul(op.Softmax(logits, axis=-1), self._split(op, value, [0, 2, 1, 3]))
        return op.Reshape(
            op.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, self._heads * self._head_width]
        )

    def _split(self, op: Op, x: Value, perm: list[int]) -> Value:
        """(N, T, W) to heads, its four axes N T H W/H then in the order ``perm``."""
        return op.Transpose(op.Reshape(x, [0, 0, self._heads, self._head_width]), perm=perm)


class Mixture(Module):
    """What one query finds among tokens: (N, T, W) -> (N, 1, W), without their keys and values.

    A head's logits are (x K) q = x (K q), so queries go through the keys' weight instead of all
    tokens; and a mixture of values is the mixture of tokens, through the values' weight. That is
    H rows of W numbers instead of T. Each goes through the whole weight, of which it needs a
    head's part: so no product is of a single row, whose last bit would depend on the batch.
    """

    def __init__(self, heads: int, value: LinearWeights) -> None:
        super().__init__()
        self.value = Unbiased(value)
        width = value.weight.shape[0]
        self.own = constant((heads, width), lambda: own_part(heads, width))

    def forward(self, op: Op, probes: Value, x: Value) -> Value:
        """Mixes tokens.

        Args:
            op: The builder.
            probes: (N, W, H) or (W, H), scaled queries that went through the keys' weight.
            x: (N, T, W), what keys and values would be computed of.
        """
        logits = op.Transpose(op.MatMul(x, probes), perm=[0, 2, 1])
        mixed = op.MatMul(op.Softmax(logits, axis=-1), x)
        values = op.Mul(self.value(op, mixed), self.own)
        return op.ReduceSum(values, [1], keepdims=1)


class OneQuery(Module):
    """Attention of one token to all of them: (N, 1, W) and (N, T, W) -> (N, 1, W)."""

    def __init__(
        self, heads: int, query: LinearWeights, key: LinearWeights, value: LinearWeights
    ) -> None:
        super().__init__()
        width = key.weight.shape[0]
        self.query = Linear(query, scale=attention_scale(heads, width))
        self.key = Unbiased(LinearWeights(key.weight.transposed(), key.bias))
        self.mixture = Mixture(heads, value)

    def forward(self, op: Op, token: Value, x: Value) -> Value:
        queries = op.Mul(self.query(op, token), self.mixture.own)
        probes = op.Transpose(self.key(op, queries), perm=[0, 2, 1])
        return self.mixture(op, probes, x)


def own_part(heads: int, width: int) -> NDArray[np.floating[Any]]:
    """(H, W): 1 where a number belongs to a head."""
    return np.kron(np.eye(heads), np.ones(width // heads))


def attention_scale(heads: int, width: int) -> float:
    """1/sqrt(head width), which queries are scaled by."""
    return 1 / math.sqrt(width // heads)


class Block(Module):
    """A pre-norm transformer block: (R, W) -> (R, W)."""

    def __init__(self, block: BlockWeights) -> None:
        super().__init__()
        self._add_attention(block)
        self.attention_norm = Norm(block.attention_norm)
        self.out = Linear(block.out, behind=block.value)
        self.mlp_norm = Norm(block.mlp_norm)
        self.mlp = Mlp(block)

    def _add_attention(self, block: BlockWeights) -> None:
        width = block.query.weight.shape[0]
        spare = spare_units(width)
        scale = attention_scale(block.heads, width)
        self.query = Linear(block.query, scale=scale, wider_in=spare)
        self.key = Unbiased(block.key, spare)
        self.value = Unbiased(block.value, spare)
        self._attention, self._width = Attention(block.heads, width), width

    def forward(
        self, op: Op, x: Value, mask: Value | None = None, prefixes: Prefixes | None = None
    ) -> Value:
        normed = self._normed(op, x)
        query, key, value = self.query(op, normed), self.key(op, normed), self.value(op, normed)
        if prefixes is not None:
            query, key, value = (prefixes.spread(op, each) for each in (query, key, value))
        attended = self._attention(op, query, key, value, mask)
        if prefixes is not None:
            attended = prefixes.collect(op, attended)
        return self.finish(op, x, attended)

    def _normed(self, op: Op, x: Value) -> Value:
        return widened(op, self.attention_norm(op, x), self._width)

    def finish(self, op: Op, x: Value, attended: Value) -> Value:
        """What comes after attention; both are (R, W), or (N, 1, W)."""
        x = op.Add(x, self.out(op, attended))
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x)))


class EndBlock(Block):
    """The last block, for the one token that leaves a text tower: (R, W) -> (N, 1, W).

    Its keys and values are computed: texts have fewer rows of their own than heads.
    """

    def forward(  # type: ignore[override]
        self,
        op: Op,
        x: Value,
        mask: Value | None,
        prefixes: Prefixes | None,
        pool: Callable[[Value], Value],
    ) -> Value:
        """As ``Block``, of what ``pool`` leaves; its mask is (N, 1, 1, T)."""
        normed = self._normed(op, x)
        query, key, value = (
            self.query(op, pool(normed)),
            self.key(op, normed),
            self.value(op, normed),
        )
        if prefixes is not None:
            key, value = prefixes.spread(op, key), prefixes.spread(op, value)
        return self.finish(op, pool(x), self._attention(op, query, key, value, mask))


class ClassBlock(Block):
    """The last block, for the class token alone: (N, T, W) -> (N, 1, W)."""

    def _add_attention(self, block: BlockWeights) -> None:
        self.attention = OneQuery(block.heads, block.query, block.key, block.value)

    def forward(self, op: Op, x: Value) -> Value:  # type: ignore[override]
        def pool(tokens: Value) -> Value:
            return op.Slice(tokens, [0], [1], [1])

        normed = self.attention_norm(op, x)
        return self.finish(op, pool(x), self.attention(op, pool(normed), normed))
