"""Attention, and the transformer blocks that both towers are built of.

Shapes: N batch, T tokens, W width, H heads; R rows, the tokens that are computed at all: (N, T)
of them, or (P,) where texts share some (see ``prefixes``).

A key's bias changes all logits of a query alike, which softmax does not see, so keys have none.
A value's bias comes through attention as it is, since weights sum to 1, and is added after it.
"""

import math
from collections.abc import Callable

from onnxscript.nn import Module, ModuleList

from . import weights
from .layers import Linear, Mlp, Norm, Op, Unbiased, Value, constant
from .prefixes import Prefixes


class Attention:
    """Of several heads: cuts (N, T, W) into them, mixes, and joins the result."""

    def __init__(self, heads: int, width: int) -> None:
        self._heads, self._head_width = heads, width // heads

    def __call__(self, op: Op, query: Value, key: Value, value: Value, mask: Value | None) -> Value:
        """Attention of all tokens to all.

        Args:
            op: The builder.
            query: (N, T, W), scaled.
            key, value: (N, T, W).
            mask: Added to the logits (N, H, T, T); None for none.

        Returns:
            (N, T, W).
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
    """What one query finds among tokens whose keys and values are not computed.

    A head's logits are (x K) q = x (K q), so the query goes through the keys' weight instead of
    every token; and a mixture of values is the mixture of tokens, through the values' weight.
    """

    def __init__(self, heads: int, value: weights.Linear) -> None:
        super().__init__()
        self._width = width = value.weight.shape[0]
        self.value = constant(
            (heads, width, width // heads),
            lambda: value.weight.float32().reshape(heads, -1, width).transpose(0, 2, 1),
        )

    def forward(self, op: Op, probes: Value, x: Value, mask: Value | None = None) -> Value:
        """Mixes tokens.

        Args:
            op: The builder.
            probes: (N, W, H) or (W, H), scaled queries that went through the keys' weight.
            x: (N, T, W), what keys and values would be computed of.
            mask: (N, 1, T), added to the logits (N, H, T); None for none.

        Returns:
            (N, 1, W).
        """
        logits = op.Transpose(op.MatMul(x, probes), perm=[0, 2, 1])
        if mask is not None:
            logits = op.Add(logits, mask)
        mixed = op.MatMul(op.Softmax(logits, axis=-1), x)
        heads = op.MatMul(op.Transpose(mixed, perm=[1, 0, 2]), self.value)
        return op.Reshape(op.Transpose(heads, perm=[1, 0, 2]), [0, 1, self._width])


class OneQuery(Module):
    """Attention of one query to all tokens: (N, 1, W) and (N, T, W) -> (N, 1, W)."""

    def __init__(
        self, heads: int, query: weights.Linear, key: weights.Linear, value: weights.Linear
    ) -> None:
        super().__init__()
        width = key.weight.shape[0]
        shape = (heads, width // heads, width)
        self._shape = shape
        self.query = Linear(query, scale=attention_scale(heads, width))
        self.key = constant(shape, lambda: key.weight.float32().reshape(shape))
        self.mixture = Mixture(heads, value)

    def forward(self, op: Op, token: Value, x: Value, mask: Value | None = None) -> Value:
        """Attends.

        Args:
            op: The builder.
            token: (N, 1, W), what the query is computed of.
            x, mask: As ``Mixture`` takes them.
        """
        heads = op.Reshape(self.query(op, token), [0, *self._shape[:2]])
        probes = op.MatMul(op.Transpose(heads, perm=[1, 0, 2]), self.key)
        return self.mixture(op, op.Transpose(probes, perm=[1, 2, 0]), x, mask)


def attention_scale(heads: int, width: int) -> float:
    """1/sqrt(head width), which queries are scaled by."""
    return 1 / math.sqrt(width // heads)


class Block(Module):
    """A pre-norm transformer block: (R, W) -> (R, W)."""

    def __init__(self, block: weights.Block) -> None:
        super().__init__()
        self._add_attention(block)
        self.attention_norm = Norm(block.attention_norm)
        self.out = Linear(block.out, behind=block.value)
        self.mlp_norm = Norm(block.mlp_norm)
        self.mlp = Mlp(block)

    def _add_attention(self, block: weights.Block) -> None:
        width = block.query.weight.shape[0]
        self.query = Linear(block.query, scale=attention_scale(block.heads, width))
        self.key = Unbiased(block.key)
        self.value = Unbiased(block.value)
        self._attention = Attention(block.heads, width)

    def forward(self, op: Op, x: Value, mask: Value | None, prefixes: Prefixes | None) -> Value:
        normed = self.attention_norm(op, x)
        query, key, value = self.query(op, normed), self.key(op, normed), self.value(op, normed)
        if prefixes is not None:
            query, key, value = (prefixes.spread(op, each) for each in (query, key, value))
        attended = self._attention(op, query, key, value, mask)
        if prefixes is not None:
            attended = prefixes.collect(op, attended)
        return self.finish(op, x, attended)

    def finish(self, op: Op, x: Value, attended: Value) -> Value:
        """What comes after attention; both are (R, W), or (N, 1, W)."""
        x = op.Add(x, self.out(op, attended))
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x)))


class PooledBlock(Block):
    """The last block, for the one token that leaves the tower: (R, W) -> (N, 1, W)."""

    def _add_attention(self, block: weights.Block) -> None:
        self.attention = OneQuery(block.heads, block.query, block.key, block.value)

    def forward(  # type: ignore[override]
        self,
        op: Op,
        x: Value,
        mask: Value | None,
        prefixes: Prefixes | None,
        pool: Callable[[Value], Value],
    ) -> Value:
        normed = self.attention_norm(op, x)
        all_of_them = normed if prefixes is None else prefixes.spread(op, normed)
        return self.finish(op, pool(x), self.attention(op, pool(normed), all_of_them, mask))


class Blocks(Module):
    """All blocks of a tower: (R, W) -> (N, 1, W), the pooled token's."""

    def __init__(self, blocks: tuple[weights.Block, ...]) -> None:
        super().__init__()
        self.full = ModuleList([Block(block) for block in blocks[:-1]])
        self.last = PooledBlock(blocks[-1])

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
            pooled_mask: (N, 1, T), added to the last one's.
            prefixes: Where rows are shared.
        """
        for block in self.full:
            x = block(op, x, mask, prefixes)
        return self.last(op, x, pooled_mask, prefixes, pool)
