"""Pooling by attention of a learned query, as SigLIP does it (Zhai et al. 2022, section 3.1)."""

import numpy as np
from numpy.typing import NDArray
from onnxscript.nn import Module

from ..tensors import Tensor
from .attention import Mixture, attention_scale
from .layers import Head, Linear, Mlp, Norm, Op, Value, constant
from .weights import AttentionPoolingWeights, NormWeights


class AttentionPooling(Module):
    """(N, T, W) -> (N, D), unit rows: normalised, attended to, through an MLP, projected.

    The query is the same for every image, so what it looks for is computed here and is a
    constant.
    """

    def __init__(
        self,
        pooling: AttentionPoolingWeights,
        norm: NormWeights,
        projection: Tensor | None,
        bias: Tensor | None,
    ) -> None:
        super().__init__()
        self._pooling, self._width = pooling, pooling.probe.shape[0]
        self.norm = Norm(norm)
        self.mixture = Mixture(pooling.heads, pooling.value)
        self.probes = constant((self._width, pooling.heads), self._project_probe)
        self.out = Linear(pooling.out, behind=pooling.value)
        self.mlp_norm = Norm(pooling.norm)
        self.mlp = Mlp(pooling)
        self.head = Head(None, projection, bias)

    def forward(self, op: Op, x: Value) -> Value:
        x = self.out(op, self.mixture(op, self.probes, self.norm(op, x)))
        return self.head(op, op.Add(x, self.mlp(op, self.mlp_norm(op, x))))

    def _project_probe(self) -> NDArray[np.float64]:
        """(W, H): the query, scaled, through the keys' weight."""
        query, key, heads = self._pooling.query, self._pooling.key, self._pooling.heads
        row = query.weight.float64() @ self._pooling.probe.float64() + query.bias.float64()
        scaled = row.reshape(heads, -1) * attention_scale(heads, self._width)
        return np.einsum("hd,hdw->wh", scaled, key.weight.float64().reshape(heads, -1, self._width))
