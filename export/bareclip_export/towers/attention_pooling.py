"""Pooling by attention of a learned query, as SigLIP does it (Zhai et al. 2022, section 3.1)."""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module

from ..tensors import Tensor
from . import weights
from .layers import Attention, Head, Linear, Mlp, Norm, Op, Value, constant


class AttentionPooling(Module):
    """(N, T, W) -> (N, D), unit rows: normalised, attended to, through an MLP, projected.

    The query is the same for every image, so it is computed here and is a constant.
    """

    def __init__(
        self, pooling: weights.AttentionPooling, norm: weights.Norm, projection: Tensor | None
    ) -> None:
        super().__init__()
        self._pooling = pooling
        self._attention = Attention(pooling.heads, pooling.probe.shape[0])
        self.norm = Norm(norm)
        self.query = constant(
            (1, pooling.heads, 1, self._attention.head_width),
            self._project_probe,
        )
        self.key_value = Linear(pooling.key, pooling.value)
        self.out = Linear(pooling.out)
        self.mlp_norm = Norm(pooling.norm)
        self.mlp = Mlp(pooling)
        self.head = Head(None, projection)

    def forward(self, op: Op, x: Value) -> Value:
        projected = self.key_value(op, self.norm(op, x))
        key, value = op.Split(projected, axis=-1, num_outputs=2, _outputs=2)
        x = self.out(op, self._attention.of_heads(op, self.query, key, value))
        return self.head(op, op.Add(x, self.mlp(op, self.mlp_norm(op, x))))

    def _project_probe(self) -> NDArray[np.float64]:
        """(1, H, 1, W/H): the query, scaled and cut into heads."""
        query = self._pooling.query
        row = query.weight.float64() @ self._pooling.probe.float64() + query.bias.float64()
        return (row * self._attention.scale).reshape(1, self._pooling.heads, 1, -1)
