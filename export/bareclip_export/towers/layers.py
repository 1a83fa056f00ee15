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
from onnxscript.nn import Module, Parameter

from ..tensors import Tensor
from .weights import (
    Activation,
    AttentionPoolingWeights,
    BlockWeights,
    LinearWeights,
    MlpWeights,
    NormWeights,
)

Op = Any  # onnxscript's OpBuilder: every ONNX operator is an attribute of it
Value = ir.Value

FLOAT = ir.DataType.FLOAT
# Where a Slice ends that takes all that is left.
LAST = np.iinfo(np.int64).max
# Units that are added to a hidden layer: a cache line of float32.
SPARE = 16


def constant(shape: tuple[int, ...], compute: Callable[[], NDArray[Any]]) -> Parameter:
    """A float32 weight that is computed when the graph is written, and not kept."""

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(compute(), np.float32))

    return Parameter(shape, data=ir.LazyTensor(tensor, FLOAT, ir.Shape(shape)))


# quick_gelu(x) = x * sigmoid(1.702 x).
QUICK_GELU = 1.702


def _matrix(
    layer: LinearWeights, scale: float = 1.0, wider_in: int = 0, wider_out: int = 0
) -> Parameter:
    """(in, out), as a product takes it from the right, filled up with zeros."""
    out, width = layer.weight.shape
    shape = (width + wider_in, out + wider_out)

    def filled() -> NDArray[np.float32]:
        # In one pass: copies of a large model's layers took a third of the time to write it.
        matrix = np.zeros(shape, np.float32)
        np.multiply(layer.weight.float32().T, np.float32(scale), out=matrix[:width, :out])
        return matrix

    return constant(shape, filled)


class Linear(Module):
    """A linear layer: (.., in) -> (.., out)."""

    def __init__(
        self,
        layer: LinearWeights,
        *,
        scale: float = 1.0,
        input_scale: float = 1.0,
        behind: LinearWeights | None = None,
        wider_in: int = 0,
        wider_out: int = 0,
    ) -> None:
        """Takes a layer's weights.

        Args:
            layer: The layer.
            scale: Of its result.
            input_scale: What its input has been multiplied by.
            behind: A layer whose bias reaches this one as it is; this one adds it too.
            wider_in, wider_out: Zeros to fill the weight up with; see ``spare_units``.
        """
        super().__init__()
        self.weight = _matrix(layer, scale / input_scale, wider_in, wider_out)

        def bias() -> NDArray[np.float64]:
            total = layer.bias.float64()
            if behind is not None:
                total = total + layer.weight.float64() @ behind.bias.float64()
            return np.pad(total * scale, (0, wider_out))

        self.bias = constant((layer.weight.shape[0] + wider_out,), bias)

    def forward(self, op: Op, x: Value) -> Value:
        return op.Add(op.MatMul(x, self.weight), self.bias)


class Unbiased(Module):
    """A linear layer without its bias: (.., in) -> (.., out)."""

    def __init__(self, layer: LinearWeights, wider_in: int = 0) -> None:
        super().__init__()
        self.weight = _matrix(layer, wider_in=wider_in)

    def forward(self, op: Op, x: Value) -> Value:
        return op.MatMul(x, self.weight)


class Norm(Module):
    """Layer normalisation over the last axis."""

    def __init__(self, norm: NormWeights) -> None:
        super().__init__()
        self._epsilon = norm.epsilon
        self.scale = constant(norm.scale.shape, norm.scale.float32)
        self.bias = constant(norm.bias.shape, norm.bias.float32)

    def forward(self, op: Op, x: Value) -> Value:
        return op.LayerNormalization(x, self.scale, self.bias, axis=-1, epsilon=self._epsilon)


class Mlp(Module):
    """Expand, activate, contract: (.., W) -> (.., W).

    quick_gelu(x) is silu(1.702 x) / 1.702, and the layers around it take the factors: one operator
    less, and ONNX Runtime has a kernel of its own for silu on AVX-512.
    """

    def __init__(self, block: BlockWeights | AttentionPoolingWeights | MlpWeights) -> None:
        super().__init__()
        hidden, self._width = block.expand.weight.shape
        spare = spare_units(hidden)
        self._activation = block.activation
        scale = QUICK_GELU if self._activation == "quick_gelu" else 1.0
        self.expand = Linear(
            block.expand, scale=scale, wider_in=spare_units(self._width), wider_out=spare
        )
        self.contract = Linear(block.contract, input_scale=scale, wider_in=spare)

    def forward(self, op: Op, x: Value) -> Value:
        x = self.expand(op, widened(op, x, self._width))
        if self._activation == "quick_gelu":
            return self.contract(op, op.Mul(x, op.Sigmoid(x)))
        return self.contract(op, activate(op, x, self._activation))


def spare_units(width: int) -> int:
    """How many units of zeros to add to a layer of that width.

    Rows of float32 that are a multiple of 4,096 bytes long fall into the same sets of a CPU's
    level-1 cache, and the dozen that a matrix product reads at a time push each other out: on
    Zen 4, 158 GFLOP/s where 16 more columns give 203 (3,072 wide). All of CLIP's MLPs are so, and
    ViT-L's tokens.
    """
    return SPARE if width % 1024 == 0 else 0


def widened(op: Op, x: Value, width: int) -> Value:
    """(.., width), with its spare units."""
    spare = spare_units(width)
    return op.Pad(x, [0, spare], None, [-1]) if spare else x


def activate(op: Op, x: Value, activation: Activation) -> Value:
    """Element by element."""
    if activation == "relu":
        return op.Relu(x)
    if activation == "quick_gelu":
        return op.Mul(x, op.Sigmoid(op.Mul(x, QUICK_GELU)))
    if activation == "silu":
        return op.Mul(x, op.Sigmoid(x))
    if activation == "gelu":
        erf = op.Erf(op.Mul(x, 1 / math.sqrt(2)))
        return op.Mul(op.Mul(x, op.Add(erf, 1.0)), 0.5)
    # Hendrycks and Gimpel 2016, the approximation of "Gaussian Error Linear Units".
    cube = op.Mul(op.Mul(op.Mul(x, x), x), 0.044715)
    tanh = op.Tanh(op.Mul(op.Add(x, cube), math.sqrt(2 / math.pi)))
    return op.Mul(op.Mul(x, op.Add(tanh, 1.0)), 0.5)


class Head(Module):
    """Normalises the pooled token, projects it, and scales it to length 1."""

    def __init__(
        self, norm: NormWeights | None, projection: Tensor | None, bias: Tensor | None = None
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
