"""Blocks of EVA's and the Perception Encoder's transformers: (N, T, W) -> what is pooled.

Sun et al. 2023, "EVA-CLIP"; Bolya et al. 2025, "Perception Encoder". Shapes as in ``attention``.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module, ModuleList

from ..tensors import Tensor
from .attention import Attention, attention_scale
from .eva_weights import EvaBlockWeights, EvaWeights, GateWeights, Rotation
from .layers import (
    Linear,
    Mlp,
    Norm,
    Op,
    Unbiased,
    Value,
    activate,
    constant,
    spare_units,
    widened,
)
from .weights import LinearWeights

Rotate = Callable[[Value], Value]
_TEMPERATURE = 10_000


class EvaBlocks(Module):
    """All blocks: (N, T, W) -> (N, T, W), or (N, 1, W) where the class token is pooled."""

    def __init__(self, tower: EvaWeights) -> None:
        super().__init__()
        self._heads, rotation = tower.blocks[0].heads, tower.rotation
        tokens, width = tower.positions.shape
        self._half = width // self._heads // 2
        self.cos = self.sin = None
        if rotation is not None:
            found = angles(rotation, tokens - rotation.grid**2, self._half)
            self.cos = constant((tokens, width), lambda: self._table(np.cos(found), np.cos(found)))
            self.sin = constant((tokens, width), lambda: self._table(-np.sin(found), np.sin(found)))
        rotated = rotation is not None
        whole = tower.blocks[:-1] if tower.pooling == "class" else tower.blocks
        self.full = ModuleList([EvaBlock(block, rotated) for block in whole])
        self.last = None
        if tower.pooling == "class":
            self.last = EvaBlock(tower.blocks[-1], rotated, class_alone=True)

    def forward(self, op: Op, x: Value) -> Value:
        def rotate(x: Value) -> Value:
            if self.cos is None:
                return x
            pairs = op.Reshape(x, [0, 0, self._heads, 2 * self._half])
            first, second = op.Split(pairs, axis=-1, num_outputs=2, _outputs=2)
            other = op.Reshape(op.Concat(second, first, axis=-1), [0, 0, -1])
            return op.Add(op.Mul(x, self.cos), op.Mul(other, self.sin))

        for block in self.full:
            x = block(op, x, rotate)
        return x if self.last is None else self.last(op, x, rotate)

    def _table(
        self, first: NDArray[np.float64], second: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(T, W): the same for every head, whose pairs' first numbers come before the others."""
        return np.tile(np.concatenate([first, second], axis=1), self._heads)


class EvaBlock(Module):
    """A block: (N, T, W) -> (N, T, W), or (N, 1, W), of the class token alone."""

    def __init__(self, block: EvaBlockWeights, rotated: bool, class_alone: bool = False) -> None:
        super().__init__()
        self._after, self._class_alone = block.norms_after, class_alone
        self._width = width = block.query.weight.shape[0]
        spare, scale = spare_units(width), attention_scale(block.heads, width)
        query, key = block.query, block.key
        if rotated:
            query, key = pairs_apart(query, block.heads), pairs_apart(key, block.heads)
        self.attention_norm = Norm(block.attention_norm)
        self.query = Linear(query, scale=scale, wider_in=spare)
        biased = rotated and block.biased_keys
        self.key = Linear(key, wider_in=spare) if biased else Unbiased(key, spare)
        self.value = Unbiased(block.value, spare)
        self._attention = Attention(block.heads, width)
        self.inner_norm = self.value_bias = None
        if block.inner_norm is None:
            self.out = Linear(block.out, behind=block.value)
        else:
            # What the values' bias adds to attention is normalised with it.
            self.value_bias = constant((width,), block.value.bias.float32)
            self.inner_norm = Norm(block.inner_norm)
            self.out = Linear(block.out)
        self.mlp_norm = Norm(block.mlp_norm)
        self.mlp = Mlp(block) if block.gate is None else GatedMlp(block, block.gate)

    def forward(self, op: Op, x: Value, rotate: Rotate) -> Value:
        taken = x if self._after else self.attention_norm(op, x)
        taken = widened(op, taken, self._width)
        key, value = rotate(self.key(op, taken)), self.value(op, taken)
        if self._class_alone:
            x, taken = (op.Slice(each, [0], [1], [1]) for each in (x, taken))
        query = self.query(op, taken)
        if not self._class_alone:
            query = rotate(query)
        found = self._attention(op, query, key, value, None)
        if self.inner_norm is not None:
            found = self.inner_norm(op, op.Add(found, self.value_bias))
        found = self.out(op, found)
        if self._after:
            x = op.Add(x, self.attention_norm(op, found))
            return op.Add(x, self.mlp_norm(op, self.mlp(op, x)))
        x = op.Add(x, found)
        return op.Add(x, self.mlp(op, self.mlp_norm(op, x)))


class GatedMlp(Module):
    """Expand, multiply by a gate, normalise, contract: (.., W) -> (.., W) (Shazeer 2020)."""

    def __init__(self, block: EvaBlockWeights, gate: GateWeights) -> None:
        super().__init__()
        self._hidden, self._width = block.expand.weight.shape
        self._activation = block.activation
        spare = spare_units(self._width)
        self.gate = Linear(gate.expand, wider_in=spare)
        self.expand = Linear(block.expand, wider_in=spare)
        self.norm = Norm(gate.norm)
        self.contract = Linear(block.contract, wider_in=spare_units(self._hidden))

    def forward(self, op: Op, x: Value) -> Value:
        x = widened(op, x, self._width)
        gate = activate(op, self.gate(op, x), self._activation)
        x = self.norm(op, op.Mul(gate, self.expand(op, x)))
        return self.contract(op, widened(op, x, self._hidden))


def angles(rotation: Rotation, before: int, half: int) -> NDArray[np.float64]:
    """(T, half): how far each token's pairs are turned; those of ``before`` tokens are not."""
    count = half // 2
    speeds = _TEMPERATURE ** -(np.arange(count) / count)
    places = (np.arange(rotation.grid) + rotation.offset) * rotation.reference / rotation.grid
    rows, columns = np.repeat(places, rotation.grid), np.tile(places, rotation.grid)
    axes = (columns, rows) if rotation.columns_first else (rows, columns)
    turned = np.concatenate([np.outer(axis, speeds) for axis in axes], axis=1)
    return np.pad(turned, [(before, 0), (0, 0)])


def pairs_apart(layer: LinearWeights, heads: int) -> LinearWeights:
    """A layer whose results' pairs are, in each head, all of their first numbers, then the others.

    Queries and keys in the same other order have the same products.
    """

    def reordered(tensor: Tensor) -> Tensor:
        def read() -> NDArray[np.float64]:
            array = tensor.float64()
            pairs = array.reshape(heads, -1, 2, *array.shape[1:])
            return pairs.swapaxes(1, 2).reshape(array.shape)

        return Tensor(tensor.shape, read)

    return LinearWeights(reordered(layer.weight), reordered(layer.bias))
